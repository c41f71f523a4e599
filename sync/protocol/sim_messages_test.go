package protocol_test

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"testing"

	"parley/sync/protocol"
)

var anyMessage = protocol.Limits{DocumentChunks: true}

// describe tells a message in one line.
func describe(msg []byte) string {
	m, err := protocol.Decode(msg, anyMessage)
	if err != nil {
		return err.Error()
	}
	s := fmt.Sprintf("v%d heads %v", m.Version-0x41, short(m.Heads))
	if m.Need != nil {
		s += fmt.Sprintf(" need %v", short(m.Need))
	}
	for _, h := range m.Have {
		s += fmt.Sprintf(" have %v+%d", short(h.LastSync), len(h.Bloom))
	}
	if m.Version == protocol.V2 && len(m.Changes) > 0 {
		s += fmt.Sprintf(" %d bytes of chunks", len(m.Changes[0]))
	} else if m.Version == protocol.V1 {
		s += " changes"
		for _, c := range m.Changes {
			if n, err := parseNode(c); err == nil {
				s += " " + n.Hash.String()[:6]
			}
		}
	}
	if m.Capabilities != nil {
		s += fmt.Sprintf(" capabilities %x", []byte(m.Capabilities))
	}
	return s
}

// saturateBlooms makes the filters of a message say that they contain
// everything: false positives, which otherwise are one in a hundred.
func saturateBlooms(msg []byte) []byte {
	m, err := protocol.Decode(msg, anyMessage)
	if err != nil {
		return msg
	}
	for _, h := range m.Have {
		for i := 4; i < len(h.Bloom); i++ {
			h.Bloom[i] = 0xff
		}
	}
	return m.Append(nil)
}

func canonicalJSON(t *testing.T, b []byte) string {
	var v any
	if err := json.Unmarshal(b, &v); err != nil {
		t.Fatalf("%v: %s", err, b)
	}
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func mustHex(s string) []byte {
	b, err := hex.DecodeString(s)
	if err != nil {
		panic(err)
	}
	return b
}
