package main

import (
	"bytes"
	"encoding/json"
	"io"
	"strconv"
	"strings"
	"time"
	"unicode"

	"charm.land/lipgloss/v2"
	"github.com/charmbracelet/x/ansi"
)

// plain makes text of others fit for a terminal: one line, and nothing that
// would move the cursor or turn the direction of writing.
func plain(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\n' || r == '\r' || r == '\t':
			return ' '
		case unicode.IsControl(r), r >= 0x202a && r <= 0x202e, r >= 0x2066 && r <= 0x2069:
			return unicode.ReplacementChar
		}
		return r
	}, s)
}

// valueText is a value as people write it: text without quotes, unless it would
// be read as something else without them.
func valueText(v json.RawMessage) string {
	var s string
	if json.Unmarshal(v, &s) == nil && len(v) > 0 && v[0] == '"' && s != "" && !json.Valid([]byte(s)) {
		return plain(s)
	}
	var line bytes.Buffer
	if json.Compact(&line, v) != nil {
		return plain(string(v))
	}
	return plain(line.String())
}

// valueOf reads what people write: JSON, or else text.
func valueOf(s string) json.RawMessage {
	if json.Valid([]byte(s)) {
		return json.RawMessage(s)
	}
	v, err := json.Marshal(s)
	if err != nil {
		panic(err) // a string
	}
	return v
}

// whenText is a picker's time: the hour today, the day too otherwise.
func whenText(ms int64, now time.Time) string {
	t := time.UnixMilli(ms).In(now.Location())
	switch {
	case t.YearDay() == now.YearDay() && t.Year() == now.Year():
		return t.Format("15:04:05")
	case t.Year() == now.Year():
		return t.Format("2 Jan 15:04")
	}
	return t.Format("2006-01-02 15:04")
}

// short is enough of a hash to tell it from others, and for --at.
func short(hash string) string { return hash[:min(10, len(hash))] }

// cut shortens to a width, with an ellipsis.
func cut(s string, width int) string {
	if width <= 0 {
		return ""
	}
	return ansi.Truncate(s, width, "…")
}

// pad cuts or fills to a width.
func pad(s string, width int) string {
	s = cut(s, width)
	return s + strings.Repeat(" ", max(0, width-lipgloss.Width(s)))
}

// writeTable writes rows as aligned columns, none wider than most.
func writeTable(w io.Writer, rows [][]string, most int) error {
	var widths []int
	for _, row := range rows {
		for i, cell := range row {
			if i == len(widths) {
				widths = append(widths, 0)
			}
			widths[i] = max(widths[i], min(most, lipgloss.Width(cell)))
		}
	}
	var b strings.Builder
	for _, row := range rows {
		var line strings.Builder
		for i, cell := range row {
			line.WriteString(pad(cell, widths[i]) + "  ")
		}
		b.WriteString(strings.TrimRight(line.String(), " ") + "\n")
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func count(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return strconv.Itoa(n) + " " + many
}
