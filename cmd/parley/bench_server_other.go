//go:build !linux

package main

import "syscall"

// ownAttributes keep Ctrl-C from the server, which is ended after the measuring.
func ownAttributes() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }
