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

// ask runs a program and returns what it prints; not ok if it fails, for then nothing is known.
func ask(ctx context.Context, argv ...string) (out string, ok bool) {
	ctx, stop := context.WithTimeout(ctx, lookWait)
	defer stop()
	text, err := host.Run(ctx, argv...)
	return strings.TrimSpace(string(text)), err == nil
}

// setting is a sysctl(3)'s value as text. Numbers that are asked for here have four bytes, but for kern.racct.enable, a bool of one.
func setting(name string) (string, bool) {
	if n, err := unix.SysctlUint32(name); err == nil {
		return strconv.Itoa(int(int32(n))), true
	}
	if b, err := unix.SysctlRaw(name); err == nil && len(b) == 1 && b[0] <= 1 {
		return strconv.Itoa(int(b[0])), true
	}
	s, err := unix.Sysctl(name)
	return s, err == nil
}

// systemFacts are this system's, for a person to read.
func (h *housekeeper) systemFacts(ctx context.Context) (out [][2]string) {
	seen := h.lookAtHost(ctx)
	out = append(out, [2]string{"kernel", seen.Running}, [2]string{"installed kernel", seen.Installed}, [2]string{"userland", seen.Userland},
		[2]string{"advisories", "known up to " + hostcheck.LastRead})
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
	out := &hostcheck.Host{LoadModules: h.e.modules, Wanted: jailspec.Devices, Sysctls: map[string]string{}}
	out.Running, _ = unix.Sysctl("kern.osrelease")
	out.Version, _ = unix.Sysctl("kern.version")
	out.Arch, _ = unix.Sysctl("hw.machine_arch")
	out.Installed, _ = ask(ctx, "freebsd-version", "-k")
	out.Userland, _ = ask(ctx, "freebsd-version", "-u")
	for _, name := range hostcheck.Sysctls {
		if value, ok := setting(name); ok {
			out.Sysctls[name] = value
		}
	}
	kernel := kmod.Host(false)
	missing := func(names []string) []string { return slices.DeleteFunc(slices.Clone(names), kernel.Has) }
	out.LinuxMissing, out.NetworkMissing = missing(jailer.LinuxModules), missing(network.Modules)
	if text, ok := ask(ctx, "devfs", "rule", "-s", strconv.Itoa(h.e.ruleset), "show"); ok {
		out.Ruleset, out.Rules = h.e.ruleset, jailspec.ParseRuleset(text)
	}
	var status [][2]string
	out.Driver, status = h.e.store.Driver()
	for _, s := range status {
		if s[0] == "Zpool" {
			out.Pool = s[1]
		}
	}
	if text, ok := ask(ctx, "zpool", "list", "-Hp", "-o", "name,health,capacity"); ok {
		out.Pools, _ = hostcheck.ParsePools(text) // none if zpool says something else
	}
	if text, ok := ask(ctx, "ifconfig", "-a"); ok {
		out.NICs = hostcheck.ParseNICs(text)
	}
	return out
}
