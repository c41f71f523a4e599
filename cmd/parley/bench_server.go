package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"strings"
	"time"
)

// ownServer is a server of bench's own: a child process of this binary, so that
// what it uses can be told from what the measuring uses.
type ownServer struct {
	cmd  *exec.Cmd
	url  string // ws://
	data string // removed in the end
	read chan struct{}
	last string // line that it logged, once read is closed
}

// listeningOn is what parley serve logs when it can be reached.
var listeningOn = regexp.MustCompile(`listening on http://([^" ]+)`)

// startOwn starts a server on a free port of loopback, and waits until it
// listens. It believes everyone, and has the settings that the environment gives
// to parley serve.
func startOwn(ctx context.Context) (*ownServer, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find this binary, to start a server: %w", err)
	}
	data, err := os.MkdirTemp("", "parley-bench-")
	if err != nil {
		return nil, fmt.Errorf("make a folder for a server: %w", err)
	}
	s := &ownServer{data: data, read: make(chan struct{})}
	s.cmd = exec.Command(self, "serve", "--dev", "--keys=", "--listen", "127.0.0.1:0", "--data", data, "--log", "info")
	s.cmd.SysProcAttr = ownAttributes()
	runtime.LockOSThread() // until stop: Linux takes this thread's end for the parent's
	log, err := s.cmd.StderrPipe()
	if err == nil {
		err = s.cmd.Start()
	}
	if err != nil {
		runtime.UnlockOSThread()
		return nil, errors.Join(fmt.Errorf("start a server: %w", err), os.RemoveAll(data))
	}
	address := make(chan string, 1)
	go s.follow(bufio.NewScanner(log), address)
	select {
	case a := <-address:
		s.url = "ws://" + a
		return s, nil
	case <-s.read:
		err = fmt.Errorf("the server did not start: %s", s.last)
	case <-ctx.Done():
		err = ctx.Err()
	case <-time.After(drainWithin):
		err = errors.New("the server did not start in time")
	}
	_ = s.cmd.Process.Kill()
	return nil, errors.Join(err, s.stop())
}

// follow reads the log, until the process has ended.
func (s *ownServer) follow(lines *bufio.Scanner, address chan<- string) {
	defer close(s.read)
	for lines.Scan() {
		if m := listeningOn.FindStringSubmatch(lines.Text()); m != nil {
			select {
			case address <- m[1]:
			default:
			}
		}
		s.last = strings.TrimSpace(lines.Text())
	}
}

func (s *ownServer) pid() int { return s.cmd.Process.Pid }

// stop ends the server and removes its folder. It is called from the goroutine
// that started it.
func (s *ownServer) stop() error {
	defer runtime.UnlockOSThread()
	_ = s.cmd.Process.Signal(os.Interrupt) // gone already: Wait says how
	timer := time.AfterFunc(2*drainWithin, func() { _ = s.cmd.Process.Kill() })
	defer timer.Stop()
	<-s.read
	err := s.cmd.Wait()
	if err != nil {
		err = fmt.Errorf("the server ended badly: %w: %s", err, s.last)
	}
	return errors.Join(err, os.RemoveAll(s.data))
}
