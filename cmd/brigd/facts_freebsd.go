package main

import (
	"os"

	"golang.org/x/sys/unix"
)

// memory returns the host's RAM in bytes: hw.physmem, sysctl(3).
func memory() int64 {
	n, _ := unix.SysctlUint64("hw.physmem")
	return int64(n)
}

// forwarding reports whether the host forwards IPv4 packets: net.inet.ip.forwarding, inet(4).
func forwarding() bool {
	n, err := unix.SysctlUint32("net.inet.ip.forwarding")
	return err == nil && n != 0
}

// openFiles counts this process's descriptors.
func openFiles() int {
	e, _ := os.ReadDir("/dev/fd")
	return len(e)
}

// hostNotes has none.
func hostNotes() []string { return nil }
