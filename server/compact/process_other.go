//go:build !linux

package compact

import "syscall"

// processAttributes has nothing to add where only Linux's way is known: the
// child ends when its input does, after the call it is in.
func processAttributes() *syscall.SysProcAttr { return nil }

// giveWay does nothing: elsewhere a priority is the process's, or there is none.
func giveWay() {}

// limitMemory does nothing: other systems do not keep to a limit on the address
// space.
func limitMemory(int64) error { return nil }
