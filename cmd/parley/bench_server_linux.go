package main

import "syscall"

// ownAttributes keep Ctrl-C from the server, which is ended after the measuring,
// and let it end with the thread that starts it.
func ownAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
}
