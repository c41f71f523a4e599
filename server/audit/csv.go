package audit

import (
	"bytes"
	"encoding/csv"
	"fmt"
	"strings"
	"time"
)

// CSV returns a transaction's fields as a table for spreadsheets (RFC 4180), a
// row each, sorted by name, under a row that names the columns. A text that a
// spreadsheet would take for a formula gets an apostrophe before it, as
// spreadsheets mark text themselves. It is unsigned, and fails where [Write]
// does.
func CSV(src Source) ([]byte, error) {
	src, err := src.cut()
	if err != nil {
		return nil, fmt.Errorf("write the fields of %s: %w", src.Transaction, err)
	}
	src.Resolutions = nil // which are not in the table
	a, err := check(src, Public{}, nil)
	if err != nil {
		return nil, fmt.Errorf("write the fields of %s: %w", src.Transaction, err)
	}
	var b bytes.Buffer
	w := csv.NewWriter(&b)
	w.UseCRLF = true
	rows := [][]string{{"field", "label", "value", "by", "at", "option", "source", "contested", "missing", "required"}}
	for _, name := range a.fieldNames() {
		rows = append(rows, a.row(name))
	}
	if err := w.WriteAll(rows); err != nil {
		return nil, fmt.Errorf("write the fields of %s: %w", src.Transaction, err)
	}
	return b.Bytes(), nil
}

func (a *account) row(name string) []string {
	def, _ := a.state.Field(name)
	sel, picked := a.state.Selection(name)
	var value, by, at, option, source string
	if p := a.selection(name); p != nil {
		value, by, option, source = valueText(p.Value), p.By, p.Option, p.source
		at = time.UnixMilli(p.At).UTC().Format("2006-01-02T15:04:05.000Z")
		if !isNumber(p.Value) {
			value = inert(value)
		}
	}
	return []string{
		inert(name), inert(def.Label), value, inert(by), at, inert(option), inert(source),
		yes(sel.Contested()), yes(def.Required && !picked), yes(def.Required),
	}
}

// isNumber says whether JSON is a number, which a sign may begin.
func isNumber(v []byte) bool {
	return len(v) > 0 && (v[0] == '-' || '0' <= v[0] && v[0] <= '9')
}

// inert keeps a spreadsheet from reading a text as a formula.
func inert(s string) string {
	if strings.ContainsAny(firstOf(strings.TrimLeft(s, " ")), "=+-@\t\r\n＝＋－＠") {
		return "'" + s
	}
	return s
}

// firstOf returns a text's first character.
func firstOf(s string) string {
	for i := range s {
		if i > 0 {
			return s[:i]
		}
	}
	return s
}

func yes(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}
