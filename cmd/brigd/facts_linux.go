package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"runtime"

	"golang.org/x/sys/unix"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/elfcheck"
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

// systemTools are programs that brigd or its operator uses on this system alone.
var systemTools = []string{"nft", "nsenter"}

// systemFacts are this system's, for a person to read.
func (h *housekeeper) systemFacts(context.Context) [][2]string {
	return [][2]string{{"cgroups", "v" + h.e.jails.Facts().CgroupVersion}}
}

// examineSystem notes what this kernel or this process lacks that containers can ask for.
func (h *housekeeper) examineSystem(context.Context) (out []brig.Finding) {
	for _, w := range h.e.jails.Facts().Warnings {
		out = append(out, brig.Finding{Check: "host", Subject: "cgroups", Problem: w, Note: true})
	}
	head := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&head, &data[0]); err == nil && data[0].Effective&(1<<capSysResource) == 0 {
		out = append(out, brig.Finding{Check: "host", Subject: "host", Problem: "brigd lacks CAP_SYS_RESOURCE: limits above its own are reduced", Note: true})
	}
	return out
}

// machine is this host as images are checked for it. What binfmt_misc has may change.
func machine() elfcheck.Host {
	var entries []string
	files, _ := filepath.Glob("/proc/sys/fs/binfmt_misc/*") // a pattern without faults has no error
	for _, f := range files {
		if b, err := os.ReadFile(f); err == nil { // register can't be read
			entries = append(entries, string(b))
		}
	}
	return elfcheck.Host{OS: "linux", Arch: runtime.GOARCH, Emulates: elfcheck.Emulated(entries)}
}
