package compact

import (
	"fmt"
	"regexp"
	"strings"
	"unicode"
)

// firstBytes keeps the beginning of what is written to it: a dying process says
// first why. It is read after the last write.
type firstBytes struct {
	kept  []byte
	total int
}

const maxStderr = 4096

func (f *firstBytes) Write(p []byte) (int, error) {
	f.total += len(p)
	f.kept = append(f.kept, p[:min(len(p), maxStderr-len(f.kept))]...)
	return len(p), nil
}

// harmless are the parts of last words that hold nothing of a document: where
// the Rust code panicked (its message may quote a value), what the allocator
// and Go's runtime say when memory ends, and the signal of an abort.
var harmless = []*regexp.Regexp{
	regexp.MustCompile(`[a-z_]{1,40}\.rs:\d{1,6}`),
	regexp.MustCompile(`memory allocation of \d{1,20} bytes failed`),
	regexp.MustCompile(`fatal error: (runtime: )?(out of memory|cannot allocate memory|unexpected signal|stack overflow)`),
	regexp.MustCompile(`SIG[A-Z]{1,8}: [a-z ]{1,40}`),
}

// summary is one line for a log: the harmless parts of what was written, or how
// much it was. What else was written may be a document's content.
func (f *firstBytes) summary() string {
	var parts []string
	for _, re := range harmless {
		if s := re.Find(f.kept); s != nil {
			parts = append(parts, string(s))
		}
	}
	if len(parts) == 0 && f.total > 0 {
		return fmt.Sprintf("%d bytes on its standard error", f.total)
	}
	return strings.Join(parts, ", ")
}

const maxMessage = 300

// printable is what the engine says, fit for an error: one line of bounded
// length, without control characters.
func printable(s string) string {
	s = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, s)
	if len(s) > maxMessage {
		s = strings.ToValidUTF8(s[:maxMessage], "") + "..."
	}
	return s
}
