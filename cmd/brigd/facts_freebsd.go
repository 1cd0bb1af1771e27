package main

import (
	"encoding/binary"
	"runtime"

	"golang.org/x/sys/unix"

	"github.com/brigd/brig/internal/elfcheck"
	"github.com/brigd/brig/internal/errs"
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

// openFiles counts this process's descriptors: kern.proc.nfds, which knows no other process than its caller (kern_descrip.c). /dev/fd shows
// three of them where no fdescfs(5) is mounted.
func openFiles() int {
	b, err := unix.SysctlRaw("kern.proc.nfds", 0)
	if err != nil || len(b) < 4 {
		return 0
	}
	return int(binary.NativeEndian.Uint32(b))
}

// sharesStack says whether containers share the host's network stack: the kernel has VNET or not, and the configuration may want to do without.
func sharesStack(mode string) (bool, error) {
	vnet, _ := unix.SysctlUint32("kern.features.vimage") // a kernel without VNET has no such name
	if mode == "vnet" && vnet != 1 {
		return false, errs.New(errs.NotImplemented, "freebsd-network: the kernel has no VNET (options VIMAGE)")
	}
	return mode == "shared" || vnet != 1, nil
}

// machine is this host as images are checked for it: sysctl(3), kern.osrelease, kern.osreldate, and what loading linux64 leaves as it was.
func machine() elfcheck.Host {
	name, _ := unix.Sysctl("kern.osrelease") // both are there on every FreeBSD
	version, _ := unix.SysctlUint32("kern.osreldate")
	h := elfcheck.FreeBSDHost(name, int(version), runtime.GOARCH)
	brand, err := unix.SysctlUint32("kern.elf64.fallback_brand")
	h.Brand, h.BrandKnown = int(int32(brand)), err == nil
	return h
}
