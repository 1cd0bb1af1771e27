// Package hostcheck judges whether a FreeBSD host is fit for containers. It looks at nothing itself: what was found is given to it, so that
// all of it is tested anywhere.
package hostcheck

import (
	"fmt"
	"slices"
	"strings"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/kmod"
)

// A Host is what was found. What couldn't be found out is empty, and then nothing is said of it.
type Host struct {
	Running   string // the kernel that runs, kern.osrelease: "14.4-RELEASE-p6"
	Installed string // the kernel that would run after a boot, freebsd-version -k
	Userland  string // freebsd-version -u
	Version   string // kern.version, which names the branch and counts its commits: "… stable/14-n274447-715831359fa7 GENERIC"
	Arch      string // hw.machine_arch: "amd64", "aarch64"

	LinuxMissing   []string // kernel modules for programs for Linux that aren't there and couldn't be loaded
	NetworkMissing []string // those for bridge networks that aren't there
	LoadModules    bool     // brigd loads the latter when it makes the first network

	Sysctls map[string]string // those of Sysctls by name; those that the kernel doesn't have are not in it

	Ruleset int      // number of brig's devfs ruleset
	Wanted  []string // its rules
	Rules   []string // what is in it

	Driver string // of storage: zfs, overlay, copy
	Pool   string // that the zfs driver is on; "" with others
	Pools  []Pool

	NICs []NIC
}

// Sysctls are the names that Judge asks for.
var Sysctls = []string{
	"kern.racct.enable", "kern.securelevel", "kern.elf64.fallback_brand", "security.jail.jailed", "hw.vtnet.lro_disable", "hw.vtnet.csum_disable", "net.inet.ip.forwarding",
	"net.link.bridge.pfil_member", "net.link.bridge.pfil_bridge", "net.link.bridge.pfil_local_phys", "net.link.bridge.pfil_onlyip", "net.link.bridge.ipfw",
}

// Judge says what keeps containers from being safe or from working there, each with the command that mends it. All of it is the operator's.
func Judge(h *Host) []brig.Finding {
	j := &judge{Host: h}
	j.patches()
	j.kernel()
	j.modules()
	j.devices()
	j.storage()
	j.network()
	return j.out
}

type judge struct {
	*Host
	out []brig.Finding
}

func (j *judge) note(subject, command, format string, args ...any) {
	j.out = append(j.out, brig.Finding{Check: "host", Subject: subject, Problem: fmt.Sprintf(format, args...), Command: command, Note: true})
}

// is reports whether a setting is there and has that value.
func (j *judge) is(name, value string) bool {
	v, ok := j.Sysctls[name]
	return ok && v == value
}

// kernel looks at settings that can be changed by a boot alone, or not at all.
func (j *judge) kernel() {
	if j.is("security.jail.jailed", "1") {
		j.note("jail", "", "brigd itself runs in a jail, where it lacks most of what it needs")
	}
	switch racct, ok := j.Sysctls["kern.racct.enable"]; {
	case !ok && j.Sysctls != nil:
		j.note("racct", "", "this kernel is built without RACCT and RCTL: containers have neither limits of memory, CPU and processes nor statistics")
	case ok && racct != "1":
		j.note("racct", "echo kern.racct.enable=1 >>/boot/loader.conf; shutdown -r now",
			"kern.racct.enable is off: containers have neither limits of memory, CPU and processes nor statistics")
	}
	level := j.Sysctls["kern.securelevel"]
	what := map[string]string{
		"1": "kernel modules can't be loaded",
		"2": "kernel modules can't be loaded",
		"3": "kernel modules can't be loaded and pf's rules can't be changed, so that there are no bridge networks",
	}[level] // security(7)
	if what != "" {
		j.note("securelevel", "sysrc kern_securelevel_enable=NO; shutdown -r now", "kern.securelevel is %s: %s", level, what)
	}
}

// modules looks at those that brigd starts without.
func (j *judge) modules() {
	if len(j.LinuxMissing) > 0 {
		j.note("modules", kmod.Command(j.LinuxMissing), "images for Linux can't run: the kernel lacks %s", strings.Join(j.LinuxMissing, ", "))
	} else if j.is("kern.elf64.fallback_brand", "-1") {
		j.note("linux", "sysctl kern.elf64.fallback_brand=3; echo kern.elf64.fallback_brand=3 >>/etc/sysctl.conf",
			"programs for Linux that don't say what they are for, as static ones of Go, can't be executed: kern.elf64.fallback_brand is -1")
	}
	if len(j.NetworkMissing) > 0 && !j.LoadModules {
		j.note("modules", kmod.Command(j.NetworkMissing), "there are no bridge networks: the kernel lacks %s, and load-modules is false", strings.Join(j.NetworkMissing, ", "))
	}
}

// devices looks at the ruleset that hides the host's devices.
func (j *judge) devices() {
	if j.Ruleset == 0 || slices.Equal(j.Rules, j.Wanted) {
		return
	}
	what := "is empty: containers that are running may come to see all of the host's devices"
	if len(j.Rules) > 0 {
		what = fmt.Sprintf("has been changed, and no container starts: it is %q", j.Rules)
	}
	j.note("devfs", fmt.Sprintf("devfs rule -s %d delset; service brigd restart", j.Ruleset), "ruleset %d %s", j.Ruleset, what)
}

// fullPool is from how many percent on a pool is noted: ZFS gets slow before it is full.
const fullPool = 90

func (j *judge) storage() {
	if j.Driver != "zfs" && j.Driver != "" && len(j.Pools) > 0 {
		pool := j.Pools[0].Name
		j.note("storage", "zfs create -o mountpoint=/var/lib/brig "+pool+"/brig",
			"images and containers are kept by the %s driver, though there is the pool %s: stop brigd, and give it a new root on a dataset, or zfs-parent", j.Driver, pool)
	}
	for _, p := range j.Pools {
		if p.Name != j.Pool {
			continue
		}
		if p.Health != "ONLINE" {
			j.note("pool", "zpool status -v "+p.Name, "%s is %s", p.Name, p.Health)
		}
		if p.Used >= fullPool {
			j.note("pool", "zfs list -o space -r "+p.Name, "%s is full to %d %%", p.Name, p.Used)
		}
	}
	if j.Pool != "" && j.Pools != nil && !slices.ContainsFunc(j.Pools, func(p Pool) bool { return p.Name == j.Pool }) {
		j.note("pool", "zpool import "+j.Pool, "%s, on which images and containers are kept, is gone", j.Pool)
	}
}

// partialChecksums is the first release whose stack marks a packet whose checksum its sender left to the hardware, until it leaves again.
const partialChecksums = 15

// network looks at what spoils packets that are forwarded. That they are, and pf, are network's to judge.
func (j *judge) network() {
	v, known := parseVersion(j.Running)
	for _, n := range j.NICs {
		if !strings.HasPrefix(n.Name, "vtnet") {
			continue // the LRO of FreeBSD's own stops while packets are forwarded (netinet/tcp_lro.c), and if_bridge turns it off
		}
		if n.has("LRO") && !j.is("hw.vtnet.lro_disable", "1") { // vtnet(4)
			j.note("interface "+n.Name, fmt.Sprintf("ifconfig %s -lro; sysrc ifconfig_%s+=' -lro'", n.Name, n.Name),
				"the machine beneath joins packets that it receives (LRO): connections of containers to other hosts may stall")
		}
		if known && v.major < partialChecksums && n.has("RXCSUM") && !j.is("hw.vtnet.csum_disable", "1") {
			j.note("interface "+n.Name, fmt.Sprintf("ifconfig %s -rxcsum -rxcsum6; sysrc ifconfig_%s+=' -rxcsum -rxcsum6'", n.Name, n.Name),
				"packets from other guests of the same machine come without checksums (RXCSUM): forwarded to a container they may be dropped")
		}
	}
	for _, s := range [][2]string{
		{"net.link.bridge.pfil_bridge", "pf sees what a bridge passes on once more, on the bridge itself"},
		{"net.link.bridge.pfil_local_phys", "pf sees what a bridge has for the host once more, on the bridge's member"},
		{"net.link.bridge.ipfw", "ipfw sees what a bridge passes on"},
	} {
		if j.is(s[0], "1") {
			j.note("bridges", "sysctl "+s[0]+"=0", "%s (%s), which brig's rules have not been tried with", s[1], s[0])
		}
	}
}
