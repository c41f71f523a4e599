package compact

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The child's thread that makes snapshots gives way to the server.
func TestTheChildGivesWay(t *testing.T) {
	c, err := start([]string{os.Args[0], "serve"}, -1)
	if err != nil {
		t.Fatal(err)
	}
	defer c.end()
	chunks, heads := history()
	frame, err := encode(request{Op: opCompact, Chunks: chunks, Heads: heads})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.do(t.Context(), frame); err != nil {
		t.Fatal(err)
	}
	ours, err := ownNice()
	if err != nil {
		t.Fatal(err)
	}
	want := fmt.Sprint(min(ours+niceness, maxNice))
	stats, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", c.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, stat := range stats {
		line, err := os.ReadFile(stat)
		if err != nil {
			continue // a thread that has ended
		}
		// Behind the name, which stands in brackets, the priority is the 16th, nice the 17th.
		nice := strings.Fields(string(line[strings.LastIndexByte(string(line), ')')+1:]))[16]
		if nice == want {
			return
		}
		all = append(all, nice)
	}
	t.Errorf("its threads have a nice value of %v, want one of %s", all, want)
}
