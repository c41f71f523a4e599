package compact

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"runtime"

	"parley/crdt"
)

// Serve is the child: it answers the requests on r, its standard input, on w,
// its standard output, until r ends. The process must do nothing else; its
// memory is limited from the first frame on. It gives way to whatever else wants the
// processors: whoever picks is not to wait for snapshots.
func Serve(r io.Reader, w io.Writer) error {
	runtime.LockOSThread() // for good: it is the thread that gives way
	giveWay()
	in := bufio.NewReader(r)
	var s setup
	if err := next(in, &s); err != nil {
		return ending(err)
	}
	if s.Memory >= 0 {
		if err := limitMemory(s.Memory); err != nil {
			return fmt.Errorf("compact: limit memory: %w", err)
		}
	}
	for {
		var ask request
		if err := next(in, &ask); err != nil {
			return ending(err)
		}
		if err := writeFrame(w, respond(ask)); err != nil {
			return fmt.Errorf("compact: write an answer: %w", err)
		}
	}
}

// next reads the next frame into v.
func next(r io.Reader, v any) error {
	frame, err := readFrame(r)
	if err != nil {
		return err
	}
	return decode(frame, v)
}

// ending is nil for the orderly end between frames.
func ending(err error) error {
	if errors.Is(err, io.EOF) {
		return nil
	}
	return fmt.Errorf("compact: read a request: %w", err)
}

// respond returns the frame of the answer.
func respond(ask request) []byte {
	a, err := ask.run()
	if err != nil {
		a = answer{Error: printable(err.Error())}
	}
	frame, err := encode(a)
	if err != nil { // too large, which its error is not
		frame, _ = encode(answer{Error: printable(err.Error())})
	}
	return frame
}

func (ask request) run() (a answer, err error) {
	switch ask.Op {
	case opCompact:
		a.Snapshot, err = crdt.Compact(ask.Snapshot, ask.Chunks, ask.Heads)
	case opMaterialize:
		a.JSON, err = crdt.Materialize(ask.Snapshot, ask.Chunks)
	default:
		err = fmt.Errorf("unknown request %q", ask.Op)
	}
	return a, err
}
