package compact

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"time"
)

// child is a running process that serves requests.
type child struct {
	cmd    *exec.Cmd
	in     io.WriteCloser
	out    *os.File // an own pipe: one of exec's would be closed under a last answer
	buf    *bufio.Reader
	stderr *firstBytes

	exited chan struct{} // closed when the process is gone and waited for
}

// environment is all of it that a child gets; the server's own may hold keys.
// One malloc arena instead of one a thread keeps freed memory in one place,
// where it is used again. Go's traces of aborts would only be thrown away.
var environment = []string{"MALLOC_ARENA_MAX=1", "GOTRACEBACK=none"}

// start runs the command, in a process group of its own so that Ctrl-C in a
// terminal reaches the server alone, and tells it its memory limit.
func start(command []string, memory int64) (*child, error) {
	out, theirs, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", command[0], err)
	}
	defer theirs.Close() // the child has its own by then
	c := &child{cmd: exec.Command(command[0], command[1:]...), out: out, buf: bufio.NewReader(out), stderr: &firstBytes{}, exited: make(chan struct{})}
	c.cmd.Env, c.cmd.SysProcAttr = environment, processAttributes()
	c.cmd.Stdout, c.cmd.Stderr = theirs, c.stderr
	c.cmd.WaitDelay = time.Second // for a stray process that holds stderr open
	if c.in, err = c.cmd.StdinPipe(); err == nil {
		err = c.cmd.Start()
	}
	if err != nil {
		out.Close()
		return nil, fmt.Errorf("start %s: %w", command[0], err)
	}
	go c.wait()
	frame, err := encode(setup{Memory: memory})
	if err == nil {
		err = writeFrame(c.in, frame)
	}
	if err != nil {
		return nil, fmt.Errorf("start %s: %w (%s)", command[0], err, c.end())
	}
	return c, nil
}

// wait is the goroutine that reaps the process; end waits for it.
func (c *child) wait() {
	_ = c.cmd.Wait() // how it ended is in ProcessState
	close(c.exited)
}

// do sends a request and reads the answer. When ctx ends first the process is
// killed, which ends both.
func (c *child) do(ctx context.Context, frame []byte) (a answer, err error) {
	killed := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(killed)
		_ = c.cmd.Process.Kill() // fails only if it is gone already
	})
	defer func() {
		if !stop() {
			<-killed
			err = context.Cause(ctx) // even if the answer came: the process is dead
		}
	}()
	if err := writeFrame(c.in, frame); err != nil {
		return a, fmt.Errorf("send the request: %w", err)
	}
	raw, err := readFrame(c.buf)
	if err != nil {
		return a, fmt.Errorf("read the answer: %w", err)
	}
	if err := decode(raw, &a); err != nil {
		return a, fmt.Errorf("read the answer: %w", err)
	}
	return a, nil
}

// end kills the process if it still runs, waits until it is gone and says how it
// ended. It may be called again.
func (c *child) end() string {
	_ = c.cmd.Process.Kill() // fails only if it is gone already
	<-c.exited
	c.out.Close()
	if line := c.stderr.summary(); line != "" {
		return c.cmd.ProcessState.String() + ", " + line
	}
	return c.cmd.ProcessState.String()
}
