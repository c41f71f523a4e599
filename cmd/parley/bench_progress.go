package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/charmbracelet/x/term"

	"parley/cmd/parley/internal/load"
)

// teller says how it goes: on a terminal in a line that is drawn again, and
// otherwise in a line now and then, and at once when something
// else begins.
type teller struct {
	w     io.Writer
	width int // of the terminal, 0 if it is none
	drawn bool
	what  string    // the last line was about
	at    time.Time // when it was written
}

// sayEvery is how often there is a line where none can be drawn again.
const sayEvery = 5 * time.Second

func newTeller(w io.Writer) *teller {
	p := &teller{w: w}
	if f, ok := w.(*os.File); ok && terminal(w) {
		p.width = 80
		if width, _, err := term.GetSize(f.Fd()); err == nil && width > 0 {
			p.width = width
		}
	}
	return p
}

// line tells how it goes now.
func (p *teller) line(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	switch {
	case p.width > 0:
		fmt.Fprint(p.w, "\r\x1b[K"+cut(text, p.width-1))
		p.drawn = true
	default:
		what, _, _ := strings.Cut(text, " ")
		if what == p.what && time.Since(p.at) < sayEvery {
			return
		}
		p.what, p.at = what, time.Now()
		fmt.Fprintln(p.w, text)
	}
}

// say tells something that stays.
func (p *teller) say(text string) {
	p.clear()
	fmt.Fprintln(p.w, text)
}

// clear takes the line away.
func (p *teller) clear() {
	if p.drawn {
		fmt.Fprint(p.w, "\r\x1b[K")
		p.drawn = false
	}
}

// point tells what was measured in the last second.
func (p *teller) point(what string, at load.Point, s load.Stands) {
	text := fmt.Sprintf("%s  %s picks/s  p99 acknowledged %s, seen %s", what, figure(at.Acknowledged), ms(at.Ack.P99), ms(at.Seen.P99))
	if s.Waiting > 0 {
		text += fmt.Sprintf("  %d waiting", s.Waiting)
	}
	if s.Cuts > 0 {
		text += fmt.Sprintf("  %d cut", s.Cuts)
	}
	if s.Refused > 0 {
		text += fmt.Sprintf("  %d refused", s.Refused)
	}
	p.line("%s", text)
}
