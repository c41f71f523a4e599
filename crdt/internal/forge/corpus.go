package forge

import (
	"bytes"
	"encoding/json"
	"fmt"
)

//go:generate go run ./cmd/hostile ../../../testdata/hostile

// Corpus returns the files of testdata/hostile, by name: the cases as lines of
// JSON, for tests that cannot import this package.
func Corpus() (map[string][]byte, error) {
	files := map[string][]byte{}
	var err error
	for name, cases := range map[string][]Case{"changes.jsonl": Cases(), "messages.jsonl": MessageCases()} {
		if files[name], err = caseLines(cases); err != nil {
			return nil, fmt.Errorf("write %s: %w", name, err)
		}
	}
	if files["frames.jsonl"], err = frameLines(FrameCases()); err != nil {
		return nil, fmt.Errorf("write frames.jsonl: %w", err)
	}
	return files, nil
}

// setupLine is a line that names changes for the cases after it.
type setupLine struct {
	Setup   string   `json:"setup"`
	Changes [][]byte `json:"changes"`
}

type caseLine struct {
	Class  string     `json:"class"`
	Name   string     `json:"name"`
	Setup  string     `json:"setup,omitempty"`
	Inputs []blobLine `json:"inputs"`
	Each   Derive     `json:"each,omitempty"`
	Want   Want       `json:"want"`
	Reason Reason     `json:"reason,omitempty"`
}

type blobLine struct {
	Head  []byte `json:"head"`
	Zeros int    `json:"zeros,omitempty"`
	Tail  []byte `json:"tail,omitempty"`
}

type frameLine struct {
	Class  string    `json:"class"`
	Name   string    `json:"name"`
	Text   bool      `json:"text,omitempty"`
	Joined bool      `json:"joined"`
	Input  blobLine  `json:"input"`
	Want   FrameWant `json:"want"`
}

func caseLines(cases []Case) ([]byte, error) {
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	setups := map[string]string{}
	for _, c := range cases {
		line := caseLine{Class: c.Class, Name: c.Name, Each: c.Each, Want: c.Want, Reason: c.Reason}
		for _, in := range c.Inputs {
			line.Inputs = append(line.Inputs, blobLine(in))
		}
		if len(c.Setup) > 0 {
			key := string(bytes.Join(c.Setup, nil))
			if setups[key] == "" {
				setups[key] = fmt.Sprintf("s%d", len(setups)+1)
				if err := enc.Encode(setupLine{setups[key], c.Setup}); err != nil {
					return nil, err
				}
			}
			line.Setup = setups[key]
		}
		if err := enc.Encode(line); err != nil {
			return nil, err
		}
	}
	return out.Bytes(), nil
}

func frameLines(cases []FrameCase) ([]byte, error) {
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	for _, c := range cases {
		line := frameLine{c.Class, c.Name, c.Text, c.Joined, blobLine(c.Input), c.Want}
		if err := enc.Encode(line); err != nil {
			return nil, err
		}
	}
	return out.Bytes(), nil
}
