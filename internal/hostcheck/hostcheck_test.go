package hostcheck

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var rules = []string{"hide", "path null unhide"}

// fit is a host that nothing is to be said of.
func fit() *Host {
	return &Host{
		Running: "15.1-RELEASE-p4", Installed: "15.1-RELEASE-p4", Userland: "15.1-RELEASE-p5", Arch: "amd64",
		Sysctls: map[string]string{
			"kern.racct.enable": "1", "kern.securelevel": "-1", "kern.elf64.fallback_brand": "3", "security.jail.jailed": "0", "hw.vtnet.lro_disable": "1",
			"net.link.bridge.pfil_member": "1", "net.link.bridge.pfil_bridge": "0", "net.link.bridge.pfil_local_phys": "0", "net.link.bridge.ipfw": "0",
		},
		Ruleset: 2718, Wanted: rules, Rules: rules, Driver: "zfs", Pool: "tank", Pools: []Pool{{"tank", "ONLINE", 40}, {"other", "DEGRADED", 99}},
		NICs: []NIC{{"em0", []string{"RXCSUM", "LRO"}}, {"vtnet0", []string{"RXCSUM", "LRO", "TSO4"}}, {"lo0", nil}},
	}
}

// said is what Judge says, a line for each finding: subject, problem, and the command.
func said(h *Host) []string {
	var out []string
	for _, f := range Judge(h) {
		out = append(out, fmt.Sprintf("%s: %s [%s]", f.Subject, f.Problem, f.Command))
		if !f.Note || f.Check != "host" || f.Mend != "" {
			out = append(out, fmt.Sprintf("%+v is not a note about the host", f))
		}
	}
	return out
}

func TestJudge(t *testing.T) {
	set := func(name, value string) func(*Host) { return func(h *Host) { h.Sysctls[name] = value } }
	for _, c := range []struct {
		name string
		harm func(*Host)
		want []string // each finding has all words of its line; as many lines as findings
	}{
		{"fit", func(*Host) {}, nil},
		{"nothing is known", func(h *Host) { *h = Host{} }, nil},
		{"jailed", set("security.jail.jailed", "1"), []string{"jail: brigd itself runs in a jail"}},
		{"racct off", set("kern.racct.enable", "0"), []string{"racct: kern.racct.enable is off|[echo kern.racct.enable=1 >>/boot/loader.conf; shutdown -r now]"}},
		{"no racct", func(h *Host) { delete(h.Sysctls, "kern.racct.enable") }, []string{"racct: this kernel is built without"}},
		{"securelevel", set("kern.securelevel", "1"), []string{"securelevel: kern.securelevel is 1: kernel modules can't be loaded [sysrc kern_securelevel_enable=NO"}},
		{"high securelevel", set("kern.securelevel", "3"), []string{"kern.securelevel is 3|pf's rules can't be changed"}},
		{"securelevel of 0", set("kern.securelevel", "0"), nil},
		{"no Linux", func(h *Host) { h.LinuxMissing = []string{"linux64", "linsysfs"} },
			[]string{`modules: images for Linux can't run: the kernel lacks linux64, linsysfs [kldload linux64 linsysfs; sysrc kld_list+="linux64 linsysfs"]`}},
		{"no brand", set("kern.elf64.fallback_brand", "-1"), []string{"linux: programs for Linux|[sysctl kern.elf64.fallback_brand=3;"}},
		{"no Linux and no brand", func(h *Host) { h.LinuxMissing, h.Sysctls["kern.elf64.fallback_brand"] = []string{"linux64"}, "-1" }, []string{"modules: images for Linux"}},
		{"no pf, which will be loaded", func(h *Host) { h.NetworkMissing, h.LoadModules = []string{"pf"}, true }, nil},
		{"no pf", func(h *Host) { h.NetworkMissing = []string{"pf"} }, []string{`modules: there are no bridge networks: the kernel lacks pf|[kldload pf; sysrc kld_list+="pf"]`}},
		{"devices of others", func(h *Host) { h.Rules = append(slices.Clone(rules), "path da0 unhide") },
			[]string{"devfs: ruleset 2718 has been changed, and no container starts|path da0 unhide|[devfs rule -s 2718 delset; service brigd restart]"}},
		{"no devices are hidden", func(h *Host) { h.Rules = nil }, []string{"devfs: ruleset 2718 is empty|[devfs rule -s 2718 delset"}},
		{"degraded", func(h *Host) { h.Pools[0].Health = "DEGRADED" }, []string{"pool: tank is DEGRADED [zpool status -v tank]"}},
		{"full", func(h *Host) { h.Pools[0].Used = 90 }, []string{"pool: tank is full to 90 % [zfs list -o space -r tank]"}},
		{"gone", func(h *Host) { h.Pools = h.Pools[1:] }, []string{"pool: tank, on which|is gone [zpool import tank]"}},
		{"not on ZFS", func(h *Host) { h.Driver, h.Pool = "copy", "" }, []string{"storage: |the copy driver, though there is the pool tank|[zfs create -o mountpoint=/var/lib/brig tank/brig]"}},
		{"no ZFS at all", func(h *Host) { h.Driver, h.Pool, h.Pools = "copy", "", nil }, nil},
		{"hardware LRO", set("hw.vtnet.lro_disable", "0"), []string{"interface vtnet0: |(LRO)|[ifconfig vtnet0 -lro; sysrc ifconfig_vtnet0+=' -lro']"}},
		{"hardware LRO off", func(h *Host) { h.Sysctls["hw.vtnet.lro_disable"] = "0"; h.NICs[1].Options = []string{"RXCSUM", "TSO4"} }, nil},
		{"checksums on 14", func(h *Host) {
			h.Running, h.Installed, h.Userland = "14.5-RELEASE-p1", "14.5-RELEASE-p1", "14.5-RELEASE-p1"
		},
			[]string{"interface vtnet0: |without checksums|[ifconfig vtnet0 -rxcsum -rxcsum6"}},
		{"bridges", func(h *Host) { h.Sysctls["net.link.bridge.pfil_bridge"], h.Sysctls["net.link.bridge.ipfw"] = "1", "1" },
			[]string{"bridges: pf sees|[sysctl net.link.bridge.pfil_bridge=0]", "bridges: ipfw|[sysctl net.link.bridge.ipfw=0]"}},
	} {
		h := fit()
		c.harm(h)
		expect(t, c.name, said(h), c.want)
	}
}

// expect compares findings with lines of words between bars.
func expect(t *testing.T, name string, got, want []string) {
	t.Helper()
	if len(got) != len(want) {
		t.Errorf("%s: %q, want %d findings", name, got, len(want))
		return
	}
	for i, line := range want {
		for _, words := range strings.Split(line, "|") {
			if !strings.Contains(got[i], words) {
				t.Errorf("%s: %q, want %q in it", name, got[i], words)
			}
		}
	}
}

func TestPatches(t *testing.T) {
	const stable15 = "FreeBSD 15.1-STABLE #3 stable/15-n%d-0123456789ab: Tue Sep 29 12:00:00 UTC 2026\n    root@x:/usr/obj/usr/src/amd64.amd64/sys/GENERIC\n"
	for _, c := range []struct {
		running, installed, userland, version string
		want                                  []string
	}{
		{running: "15.1-RELEASE-p4"},
		{running: "14.5-RELEASE-p1"},
		{running: "14.5-RELEASE-p7"},
		{running: "14.6-RELEASE"}, // later than all that is known
		{running: "15.2-RELEASE"},
		{running: "16.0-RELEASE"},
		{running: "14.5-RELEASE", want: []string{
			"patches: 14.5-RELEASE, which runs, lacks the fixes of known ways out of a jail: FreeBSD-SA-26:66.jail (directory|FreeBSD-SA-26:69.udp|[freebsd-update fetch install; shutdown -r now",
			"patches: 14.5-RELEASE, which runs, lacks|to the kernel or to root: FreeBSD-SA-26:64.sysvsem (semop(2), out of bounds) ["}},
		{running: "15.0-RELEASE-p13", want: []string{"FreeBSD-SA-26:66.jail|FreeBSD-SA-26:69.udp", "FreeBSD-SA-26:64.sysvsem"}},
		{running: "15.1-RELEASE-p3", want: []string{"out of a jail", "FreeBSD-SA-26:65.kqueue|FreeBSD-SA-26:64.sysvsem"}},
		{running: "14.3-RELEASE-p16", want: []string{"FreeBSD 14.3 gets no fixes any more: FreeBSD-SA-26:66.jail of 2026-09-29|[freebsd-update -r 14.5-RELEASE upgrade]"}},
		{running: "14.3-RELEASE-p8", want: []string{"FreeBSD 14.3 gets no fixes", "out of a jail: FreeBSD-SA-26:25.thr|FreeBSD-SA-26:04.jail", "FreeBSD-SA-26:39.execve|FreeBSD-SA-26:10.tty"}},
		{running: "13.2-RELEASE", want: []string{"FreeBSD 13.2 gets no fixes any more|[freebsd-update -r 14.5-RELEASE upgrade]", "out of a jail: FreeBSD-SA-24:02.tty"}},
		{running: "13.2-RELEASE-p12", want: []string{"FreeBSD 13.2 gets no fixes any more"}},
		{running: "15.1-STABLE", version: fmt.Sprintf(stable15, 285682)},
		{running: "15.1-STABLE", version: fmt.Sprintf(stable15, 285681), want: []string{"15.1-STABLE, which runs, lacks|out of a jail: FreeBSD-SA-26:66.jail"}},
		{running: "15.1-STABLE", version: fmt.Sprintf(stable15, 285663), want: []string{"FreeBSD-SA-26:66.jail", "FreeBSD-SA-26:65.kqueue|FreeBSD-SA-26:64.sysvsem"}},
		{running: "15.1-STABLE", version: "FreeBSD 15.1-STABLE GENERIC", want: []string{"whether 15.1-STABLE has the fixes|can't be told [] "}},
		{running: "16.0-CURRENT", version: "FreeBSD 16.0-CURRENT main-n290000-0123456789ab GENERIC", want: []string{"16.0-CURRENT|can't be told"}},
		{running: "15.1-RC3-p1", want: []string{"15.1-RC3-p1|can't be told"}},
		{running: "MYKERNEL", want: []string{"MYKERNEL|can't be told"}},
		{running: "15.1-RELEASE-p4", installed: "15.1-RELEASE-p5", want: []string{"kernel: 15.1-RELEASE-p4 runs, and 15.1-RELEASE-p5 is installed [shutdown -r now]"}},
		{running: "15.1-RELEASE-p10", installed: "15.1-RELEASE-p9"},
		{running: "14.5-RELEASE-p1", userland: "14.4-RELEASE-p9", want: []string{"userland: it is 14.4-RELEASE-p9, and the kernel 14.5-RELEASE-p1|[freebsd-update install]"}},
	} {
		for i, w := range c.want {
			c.want[i] = strings.Replace(w, "can't be told [] ", "can't be told", 1)
		}
		h := &Host{Running: c.running, Installed: c.installed, Userland: c.userland, Version: c.version, Arch: "aarch64"}
		expect(t, c.running+" "+c.installed, said(h), c.want)
	}
	h := &Host{Running: "15.0-RELEASE-p5", Arch: "amd64"}
	if all := strings.Join(said(h), "\n"); !strings.Contains(all, "FreeBSD-SA-26:11.amd64") {
		t.Errorf("amd64's own is missing: %s", all)
	}
	if h.Arch = "aarch64"; strings.Contains(strings.Join(said(h), "\n"), "FreeBSD-SA-26:11.amd64") {
		t.Error("amd64's own is noted on arm64")
	}
}

// The table can't say what can't be: a fix of a release and of its stable branch go together, and levels rise with time.
func TestAdvisories(t *testing.T) {
	name := regexp.MustCompile(`^FreeBSD-SA-2[0-9]:[0-9]{2}\.[a-z0-9_]+$`)
	seen, level := map[string]bool{}, map[string]int{}
	for _, a := range advisories {
		if !name.MatchString(a.name) || seen[a.name] || a.what == "" {
			t.Errorf("%+v is no advisory, or twice there", a)
		}
		seen[a.name] = true
		majors := map[int]bool{}
		for release, patch := range a.fixed {
			v, ok := parseVersion(release + "-RELEASE")
			if !ok || patch < 1 || a.stable[v.major] == 0 {
				t.Errorf("%s: %s-p%d, stable %v", a.name, release, patch, a.stable)
			}
			if patch < level[release] {
				t.Errorf("%s: %s-p%d is before that of an earlier advisory, p%d", a.name, release, patch, level[release])
			}
			majors[v.major], level[release] = true, patch
		}
		if !maps.Equal(majors, keys(a.stable)) {
			t.Errorf("%s: releases of %v, stable branches of %v", a.name, majors, a.stable)
		}
	}
	for _, s := range supported {
		if newest().fixed[s] == 0 {
			t.Errorf("%s is called supported and has no fix of %s", s, newest().name)
		}
	}
}

func keys(m map[int]int) map[int]bool {
	out := map[int]bool{}
	for k := range m {
		out[k] = true
	}
	return out
}

func TestParse(t *testing.T) {
	pools, err := ParsePools("tank\tONLINE\t42\nbig\tDEGRADED\t97%\ngone\tUNAVAIL\t-\n")
	if err != nil || fmt.Sprint(pools) != "[{tank ONLINE 42} {big DEGRADED 97} {gone UNAVAIL 0}]" {
		t.Errorf("pools %v, %v", pools, err)
	}
	if pools, err := ParsePools(""); err != nil || len(pools) > 0 {
		t.Errorf("no pools: %v, %v", pools, err)
	}
	for _, bad := range []string{"no pools available\n", "tank ONLINE\n", "tank ONLINE much\n"} {
		if pools, err := ParsePools(bad); err == nil {
			t.Errorf("%q is %v", bad, pools)
		}
	}
	nics := ParseNICs(`vtnet0: flags=1008843<UP,BROADCAST,RUNNING,SIMPLEX,MULTICAST,LOWER_UP> metric 0 mtu 1500
	options=4c07bb<RXCSUM,TXCSUM,VLAN_MTU,VLAN_HWTAGGING,JUMBO_MTU,VLAN_HWCSUM,TSO4,TSO6,LRO,VLAN_HWTSO,LINKSTATE,TXCSUM_IPV6>
	ether 52:54:00:12:34:56
	nd6 options=29<PERFORMNUD,IFDISABLED,AUTO_LINKLOCAL>
lo0: flags=8049<UP,LOOPBACK,RUNNING,MULTICAST> metric 0 mtu 16384
	options=680003<RXCSUM,TXCSUM,LINKSTATE,RXCSUM_IPV6,TXCSUM_IPV6>
	groups: lo
brig-1a2b3c4d: flags=8843<UP,BROADCAST,RUNNING,SIMPLEX,MULTICAST> metric 0 mtu 1500
	options=0
`)
	if len(nics) != 3 || nics[0].Name != "vtnet0" || !nics[0].has("LRO") || nics[0].has("PERFORMNUD") || nics[1].has("LRO") || nics[2].has("LRO") {
		t.Errorf("interfaces %+v", nics)
	}
}
