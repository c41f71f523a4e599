package transaction

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
	"unicode/utf8"

	"parley/crdt"
)

// scalar returns what of JSON is neither object nor array, as parse returns it.
func scalar(v any) crdt.Value {
	switch v := v.(type) {
	case bool:
		return crdt.Bool(v)
	case string:
		return crdt.Text(v)
	case int64:
		return crdt.Int(v)
	case uint64:
		return crdt.Uint(v)
	case float64:
		return crdt.Float(v)
	}
	return crdt.Null()
}

// parse reads JSON: objects as map[string]any, arrays as []any, numbers as
// int64, uint64 or float64, whichever of them is the first to hold it.
func parse(value json.RawMessage) (any, error) {
	dec := json.NewDecoder(bytes.NewReader(value))
	dec.UseNumber()
	var v any
	if err := dec.Decode(&v); err != nil {
		return nil, fmt.Errorf("read the value %s: %w", quote(string(value)), err)
	}
	if dec.InputOffset() != int64(len(bytes.TrimRight(value, " \t\r\n"))) {
		return nil, fmt.Errorf("read the value %s: more follows the JSON", quote(string(value)))
	}
	return numbers(v)
}

// numbers replaces json.Number in v.
func numbers(v any) (_ any, err error) {
	switch v := v.(type) {
	case map[string]any:
		for key := range v {
			if v[key], err = numbers(v[key]); err != nil {
				return nil, err
			}
		}
	case []any:
		for i := range v {
			if v[i], err = numbers(v[i]); err != nil {
				return nil, err
			}
		}
	case json.Number:
		return number(v.String())
	}
	return v, nil
}

func number(s string) (any, error) {
	if i, err := strconv.ParseInt(s, 10, 64); err == nil {
		return i, nil
	}
	if u, err := strconv.ParseUint(s, 10, 64); err == nil {
		return u, nil
	}
	f, err := strconv.ParseFloat(s, 64)
	if err != nil {
		return nil, fmt.Errorf("the number %s is out of range", s)
	}
	return f, nil
}

// texts checks that Automerge can hold these texts.
func texts(all ...string) error {
	for _, s := range all {
		if !utf8.ValidString(s) {
			return fmt.Errorf("%s is not UTF-8", quote(s))
		}
	}
	return nil
}
