package load

import (
	"time"

	"github.com/prometheus/procfs"
)

// Usage is what a process has used.
type Usage struct {
	Known   bool          // it is on this machine, and the system tells (Linux)
	CPU     time.Duration // user and system
	RSS     int64         // bytes
	PeakRSS int64
	Over    time.Duration // measured over this time
}

func usageOf(pid int) Usage {
	if pid == 0 {
		return Usage{}
	}
	p, err := procfs.NewProc(pid)
	if err != nil {
		return Usage{}
	}
	stat, err := p.Stat()
	if err != nil {
		return Usage{}
	}
	u := Usage{Known: true, CPU: time.Duration(stat.CPUTime() * float64(time.Second)), RSS: int64(stat.ResidentMemory())}
	if status, err := p.NewStatus(); err == nil {
		u.PeakRSS = int64(status.VmHWM)
	}
	return u
}

func (u Usage) since(before Usage, over time.Duration) Usage {
	u.Known = u.Known && before.Known
	u.CPU -= before.CPU
	u.Over = over
	return u
}
