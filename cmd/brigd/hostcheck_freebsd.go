package main

import (
	"context"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/host"
	"github.com/brigd/brig/internal/hostcheck"
	"github.com/brigd/brig/internal/kmod"
	"github.com/brigd/brig/jailer"
	"github.com/brigd/brig/jailer/jailspec"
	"github.com/brigd/brig/network"
)

// systemTools are programs that brigd or its operator uses on this system alone.
var systemTools = []string{"pfctl"}

// lookWait is for one program that is asked about the host.
const lookWait = 30 * time.Second

// ask runs a program and returns what it prints; "" if it fails, for then nothing is known.
func ask(ctx context.Context, argv ...string) string {
	ctx, stop := context.WithTimeout(ctx, lookWait)
	defer stop()
	out, err := host.Run(ctx, argv...)
	if err != nil {
		return ""
	}
	return string(out)
}

// setting is a sysctl(3)'s value as text. Numbers have four or eight bytes; those that are asked for here have four.
func setting(name string) (string, bool) {
	if n, err := unix.SysctlUint32(name); err == nil {
		return strconv.Itoa(int(int32(n))), true
	}
	s, err := unix.Sysctl(name)
	return s, err == nil
}

// systemFacts are this system's, for a person to read.
func (h *housekeeper) systemFacts(ctx context.Context) (out [][2]string) {
	seen := h.lookAtHost(ctx)
	out = append(out, [2]string{"kernel", seen.Running}, [2]string{"installed kernel", seen.Installed}, [2]string{"userland", seen.Userland})
	for _, name := range hostcheck.Sysctls {
		value, ok := seen.Sysctls[name]
		if !ok {
			value = "not in this kernel"
		}
		out = append(out, [2]string{name, value})
	}
	return out
}

// examineSystem notes what keeps this host from running containers safely or at all.
func (h *housekeeper) examineSystem(ctx context.Context) []brig.Finding {
	return hostcheck.Judge(h.lookAtHost(ctx))
}

// lookAtHost gathers what hostcheck judges.
func (h *housekeeper) lookAtHost(ctx context.Context) *hostcheck.Host {
	out := &hostcheck.Host{LoadModules: h.e.modules, Ruleset: h.e.ruleset, Wanted: jailspec.Devices, Sysctls: map[string]string{}}
	out.Running, _ = unix.Sysctl("kern.osrelease")
	out.Version, _ = unix.Sysctl("kern.version")
	out.Arch, _ = unix.Sysctl("hw.machine_arch")
	out.Installed = strings.TrimSpace(ask(ctx, "freebsd-version", "-k"))
	out.Userland = strings.TrimSpace(ask(ctx, "freebsd-version", "-u"))
	for _, name := range hostcheck.Sysctls {
		if value, ok := setting(name); ok {
			out.Sysctls[name] = value
		}
	}
	kernel := kmod.Host(false)
	missing := func(names []string) []string { return slices.DeleteFunc(slices.Clone(names), kernel.Has) }
	out.LinuxMissing, out.NetworkMissing = missing(jailer.LinuxModules), missing(network.Modules)
	out.Rules = jailspec.ParseRuleset(ask(ctx, "devfs", "rule", "-s", strconv.Itoa(out.Ruleset), "show"))
	var status [][2]string
	out.Driver, status = h.e.store.Driver()
	for _, s := range status {
		if s[0] == "Zpool" {
			out.Pool = s[1]
		}
	}
	if pools, err := hostcheck.ParsePools(ask(ctx, "zpool", "list", "-Hp", "-o", "name,health,capacity")); err == nil {
		out.Pools = pools
	}
	out.NICs = hostcheck.ParseNICs(ask(ctx, "ifconfig", "-a"))
	return out
}
