package audit

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// shown makes text of others fit to be shown: what would not be seen, or would
// turn the direction of what stands around it, is written as its code point.
func shown(s string) string {
	if strings.IndexFunc(s, hidden) < 0 && utf8.ValidString(s) {
		return s
	}
	var b strings.Builder
	for _, r := range s {
		switch {
		case r == '\n' || r == '\t':
			b.WriteRune(r)
		case hidden(r):
			fmt.Fprintf(&b, "⟨U+%04X⟩", r)
		default:
			b.WriteRune(r)
		}
	}
	return b.String()
}

// hidden says whether a character is a control or one of format, but for those
// that scripts and emoji need.
func hidden(r rune) bool {
	const joiner, nonJoiner = '\u200d', '\u200c'
	return unicode.IsControl(r) || unicode.Is(unicode.Cf, r) && r != joiner && r != nonJoiner || r == '\u2028' || r == '\u2029'
}

// valueText is a value as people write it: text without quotes, unless it would
// be read as something else without them.
func valueText(v json.RawMessage) string {
	var s string
	if len(v) > 0 && v[0] == '"' && json.Unmarshal(v, &s) == nil && s != "" && !json.Valid([]byte(s)) {
		return shown(s)
	}
	var line bytes.Buffer
	if json.Compact(&line, v) != nil {
		return shown(string(v))
	}
	return shown(line.String())
}

// clip shortens what stands in full elsewhere.
func clip(s string) string {
	const most = 160 // characters
	n := 0
	for i := range s {
		if n++; n > most {
			return s[:i] + "…"
		}
	}
	return s
}

// timeText is a time, given in milliseconds since 1970, in UTC to the second.
func timeText(ms int64) string {
	return time.UnixMilli(ms).UTC().Format("2 January 2006, 15:04:05 UTC")
}

// and lists names as a sentence does.
func and(names []string) string {
	all := make([]string, len(names))
	for i, name := range names {
		all[i] = shown(name)
	}
	if n := len(all); n > 1 {
		return strings.Join(all[:n-1], ", ") + " and " + all[n-1]
	}
	return strings.Join(all, "")
}

func count(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprint(n) + " " + many
}
