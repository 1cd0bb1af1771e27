package main

import (
	"bytes"
	"os"

	"golang.org/x/sys/unix"
)

// memory returns the host's RAM in bytes.
func memory() int64 {
	var si unix.Sysinfo_t
	if unix.Sysinfo(&si) != nil {
		return 0
	}
	return int64(uint64(si.Totalram) * uint64(si.Unit))
}

// sharesStack is of FreeBSD's configuration.
func sharesStack(string) (bool, error) { return false, nil }

// forwarding reports whether the host forwards IPv4 packets.
func forwarding() bool {
	b, err := os.ReadFile("/proc/sys/net/ipv4/ip_forward")
	return err == nil && string(bytes.TrimSpace(b)) == "1"
}

// openFiles counts this process's descriptors.
func openFiles() int {
	e, _ := os.ReadDir("/proc/self/fd")
	return len(e)
}

// capSysResource is CAP_SYS_RESOURCE's number, linux/capability.h.
const capSysResource = 24

// hostNotes says what this process lacks that containers can ask for.
func hostNotes() (out []string) {
	head := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&head, &data[0]); err == nil && data[0].Effective&(1<<capSysResource) == 0 {
		out = append(out, "brigd lacks CAP_SYS_RESOURCE: limits above its own are reduced")
	}
	return out
}
