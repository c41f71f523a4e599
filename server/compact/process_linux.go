package compact

import (
	"bytes"
	"fmt"
	"os"
	"syscall"
)

// processAttributes let the child die with the thread that starts it, even in
// the middle of a call when it does not see its input end.
func processAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}

// niceness is how much the child gives way to the server: a busy processor spends
// about a tenth of its time on it. maxNice is the most that there is.
const niceness, maxNice = 10, 19

// giveWay lowers the priority of this thread. Where that cannot be, snapshots are made
// all the same.
func giveWay() {
	if nice, err := ownNice(); err == nil {
		_ = syscall.Setpriority(syscall.PRIO_PROCESS, 0, min(nice+niceness, maxNice))
	}
}

// ownNice returns the nice value of this thread.
func ownNice() (int, error) {
	priority, err := syscall.Getpriority(syscall.PRIO_PROCESS, 0)
	return 20 - priority, err // the system call counts from 40 down to 1
}

// limitMemory lets the process map so many bytes more than it has mapped.
// Beyond that allocations fail, which ends the process.
func limitMemory(more int64) error {
	statm, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return err
	}
	var pages int64
	if _, err := fmt.Fscan(bytes.NewReader(statm), &pages); err != nil {
		return fmt.Errorf("read /proc/self/statm: %w", err)
	}
	limit := uint64(pages)*uint64(os.Getpagesize()) + uint64(more)
	return syscall.Setrlimit(syscall.RLIMIT_AS, &syscall.Rlimit{Cur: limit, Max: limit})
}
