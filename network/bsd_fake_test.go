package network

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/brigd/brig/internal/kmod"
)

// bsd is a FreeBSD host that keeps its state, as far as the commands of bsd_plan.go change it. It takes them as ifconfig.c, jail.c and their
// like of FreeBSD 13.2 read them, and prints what those print; what it doesn't know is an error.
type bsd struct {
	nics    map[string]*fakeNIC // by jail, "" for the host's, a slash, and name
	order   []string
	jails   map[string]int    // children
	addrs   map[string]string // of jails that share the host's stack, as jls prints them
	routes  map[string]route
	anchors map[string]string
	sysctls map[string]string
	epairs  int
	pf      bool
	main    string
	skip    bool     // lo0
	back    []string // interfaces that came back to the host from jails that ended
	fail    string   // commands that contain it fail
	busy    int      // so often pf says that somebody else loads rules

	unloaded []string // kernel modules that are not there
}

type fakeNIC struct {
	nic
	mac, epair string // the other end's number
	mtu        int
	private    []string
	inet6      bool
}

func newBSD() *bsd {
	b := &bsd{nics: map[string]*fakeNIC{}, jails: map[string]int{}, addrs: map[string]string{}, routes: map[string]route{}, anchors: map[string]string{}, pf: true,
		sysctls: map[string]string{"net.inet.ip.forwarding": "0", "net.inet6.ip6.forwarding": "0", "kern.features.inet6": "1"},
		main:    "nat-anchor \"brig/*\" all\nrdr-anchor \"brig/*\" all\nanchor \"brig/*\" all\n"}
	b.put("", "em0", &fakeNIC{nic: nic{up: true, addrs: []netip.Prefix{netip.MustParsePrefix("192.0.2.1/24"), netip.MustParsePrefix("fe80::1/64")}}, mtu: 1500})
	b.put("", "lo0", &fakeNIC{nic: nic{up: true, loopback: true, groups: []string{"lo"}, addrs: []netip.Prefix{netip.MustParsePrefix("127.0.0.1/8")}}})
	return b
}

func (b *bsd) put(jail, name string, n *fakeNIC) {
	n.name = name
	b.nics[jail+"/"+name] = n
	b.order = append(b.order, jail+"/"+name)
}

func (b *bsd) drop(jail, name string) {
	delete(b.nics, jail+"/"+name)
	b.order = slices.DeleteFunc(b.order, func(k string) bool { return k == jail+"/"+name })
	if jail == "" {
		for _, n := range b.nics {
			n.members = slices.DeleteFunc(n.members, func(m string) bool { return m == name })
		}
	}
}

func (b *bsd) run(_ context.Context, stdin string, argv ...string) (string, error) {
	if line := strings.Join(argv, " "); b.fail != "" && strings.Contains(line, b.fail) {
		return "", errors.New(line + ": exit status 1: Input/output error")
	}
	jail := ""
	if argv[0] == "jexec" {
		if _, there := b.jails[argv[1]]; !there {
			return "", errors.New(`jexec: jail "` + argv[1] + `" not found`)
		}
		jail, argv = argv[1], argv[2:]
	}
	switch argv[0] {
	case "ifconfig":
		return b.ifconfig(jail, argv[1:])
	case "route":
		return b.route(jail, argv[1:])
	case "jail":
		return "", b.jail(argv[1:])
	case "jls":
		if argv[1] == "-j" {
			if _, there := b.jails[argv[2]]; !there {
				return "", errors.New(`jls: jail "` + argv[2] + `" not found`)
			}
			return b.addrs[argv[2]] + "\n", nil
		}
		var out string
		for _, name := range slices.Sorted(maps.Keys(b.jails)) {
			out += name + "\n"
			for n := range b.jails[name] {
				out += fmt.Sprintf("%s.child%d\n", name, n)
			}
		}
		return out, nil
	case "pfctl":
		if slices.Contains(argv, "-f") && b.busy > 0 {
			b.busy--
			return "", errors.New("pfctl: exit status 1: pfctl: DIOCADDRULENV: Device busy")
		}
		return b.pfctl(stdin, argv[1:])
	case "sysctl":
		if argv[1] == "-n" {
			if v, ok := b.sysctls[argv[2]]; ok {
				return v + "\n", nil
			}
			return "", errors.New("sysctl: unknown oid '" + argv[2] + "'")
		}
		name, value, _ := strings.Cut(argv[1], "=")
		if jail != "" {
			name = jail + " " + name
		}
		b.sysctls[name] = value
		return "", nil
	}
	return "", fmt.Errorf("%s: no such program", argv[0])
}

func (b *bsd) jail(argv []string) error {
	if argv[0] == "-R" {
		if _, there := b.jails[argv[1]]; !there {
			return errors.New(`jail: "` + argv[1] + `" not found`)
		}
		delete(b.jails, argv[1])
		for key, n := range maps.Clone(b.nics) { // they come back with the names that they have
			if name, in := strings.CutPrefix(key, argv[1]+"/"); in {
				b.drop(argv[1], name)
				if name != "lo0" {
					b.back = append(b.back, name)
					b.put("", name, n)
				}
			}
		}
		return nil
	}
	name, named := strings.CutPrefix(argv[1], "name=")
	if argv[0] == "-m" {
		return b.readdress(name, argv[2:])
	}
	if slices.Contains(argv, "ip4.addr=") && slices.Contains(argv, "ip6.addr=") {
		b.jails[name], b.addrs[name] = 0, "- -"
		return nil
	}
	if argv[0] != "-c" || !named || !slices.Contains(argv, "vnet") || !slices.Contains(argv, "persist") || !slices.Contains(argv, "path=/") {
		return fmt.Errorf("jail: usage: %q", argv)
	}
	if _, there := b.jails[name]; there {
		return errors.New(`jail: jail "` + name + `" already exists`)
	}
	b.jails[name] = 0
	b.put(name, "lo0", &fakeNIC{nic: nic{loopback: true}})
	return nil
}

// readdress gives a jail its addresses, which is done as a whole.
func (b *bsd) readdress(jail string, argv []string) error {
	if _, there := b.jails[jail]; !there {
		return errors.New(`jail: jail "` + jail + `" not found`)
	}
	var lists []string
	for i, key := range []string{"ip4.addr=", "ip6.addr="} {
		list, ok := strings.CutPrefix(argv[i], key)
		if !ok {
			return fmt.Errorf("jail: usage: %q", argv)
		}
		if list == "" {
			list = "-"
		}
		lists = append(lists, list)
	}
	b.addrs[jail] = strings.Join(lists, " ")
	return nil
}

func (b *bsd) route(jail string, argv []string) (string, error) {
	key := jail + argv[2]
	r, there := b.routes[key]
	if there && b.nics[jail+"/"+r.iface] == nil { // it went with its interface
		delete(b.routes, key)
		there = false
	}
	switch {
	case argv[0] != "-n" || argv[3] != "default":
	case argv[1] == "get" && there:
		return fmt.Sprintf("   route to: default\ndestination: default\n       mask: default\n    gateway: %s\n        fib: 0\n  interface: %s\n      flags: <UP,GATEWAY,DONE,STATIC>\n", r.via, r.iface), nil
	case argv[1] == "get" || argv[1] == "delete" && !there:
		return "", errors.New("route: route has not been found")
	case argv[1] == "delete":
		delete(b.routes, key)
		return "delete net default\n", nil
	case argv[1] == "add" && there:
		return "", errors.New("route: writing to routing socket: File exists")
	case argv[1] == "add":
		gw := netip.MustParseAddr(argv[4])
		for key2, n := range b.nics {
			for _, a := range n.addrs {
				if strings.HasPrefix(key2, jail+"/") && a.Contains(gw) {
					b.routes[key] = route{n.name, gw}
					return "", nil
				}
			}
		}
		return "", errors.New("route: writing to routing socket: Network is unreachable")
	}
	return "", fmt.Errorf("route: %q", argv)
}

func (b *bsd) pfctl(stdin string, argv []string) (string, error) {
	line := strings.Join(argv, " ")
	anchor, rest, _ := strings.Cut(strings.TrimPrefix(line, "-a "), " ")
	switch {
	case line == "-s info":
		return map[bool]string{true: "Status: Enabled for 0 days 00:00:12           Debug: Urgent\n", false: "Status: Disabled\n"}[b.pf], nil
	case line == "-s nat":
		return b.main, nil
	case line == "-s rules":
		return "", nil
	case line == "-v -s Interfaces -i lo0":
		return map[bool]string{true: "lo0 (skip)\n", false: "lo0\n"}[b.skip], nil
	case !strings.HasPrefix(line, "-a "):
		return "", fmt.Errorf("pfctl: %q", argv)
	case rest == "-f -":
		b.anchors[anchor] = stdin
		return "", nil
	case rest == "-F all":
		delete(b.anchors, anchor)
		return "", nil
	case rest == "-s nat" || rest == "-s rules":
		var out string
		for l := range strings.Lines(b.anchors[anchor]) {
			first, _, _ := strings.Cut(l, " ")
			if rest == "-s nat" && slices.Contains([]string{"nat", "rdr", "no"}, first) || rest == "-s rules" && slices.Contains([]string{"pass", "block"}, first) {
				out += l
			}
		}
		return out, nil
	}
	return "", fmt.Errorf("pfctl: %q", argv)
}

func (b *bsd) list(jail string) string {
	var out strings.Builder
	for _, key := range b.order {
		n := b.nics[key]
		if key != jail+"/"+n.name {
			continue
		}
		flags := "8802<BROADCAST,SIMPLEX,MULTICAST>"
		switch {
		case n.loopback && n.up:
			flags = "8049<UP,LOOPBACK,RUNNING,MULTICAST>"
		case n.up:
			flags = "8843<UP,BROADCAST,RUNNING,SIMPLEX,MULTICAST>"
		}
		fmt.Fprintf(&out, "%s: flags=%s metric 0 mtu %d\n", n.name, flags, n.mtu)
		if n.descr != "" {
			fmt.Fprintf(&out, "\tdescription: %s\n", n.descr)
		}
		for _, a := range n.addrs {
			if a.Addr().Is4() {
				fmt.Fprintf(&out, "\tinet %s broadcast %s\n", a, broadcast(a))
			} else {
				fmt.Fprintf(&out, "\tinet6 %s%%%s/%d scopeid 0x2\n", a.Addr(), n.name, a.Bits())
			}
		}
		for _, m := range n.members {
			fmt.Fprintf(&out, "\tmember: %s flags=143<LEARNING,DISCOVER,AUTOEDGE,AUTOPTP>\n\t        ifmaxaddr 0 port 5 priority 128 path cost 2000\n", m)
		}
		if len(n.groups) > 0 {
			fmt.Fprintf(&out, "\tgroups: %s\n", strings.Join(n.groups, " "))
		}
		out.WriteString("\tnd6 options=29<PERFORMNUD,IFDISABLED,AUTO_LINKLOCAL>\n")
	}
	return out.String()
}

func (b *bsd) ifconfig(jail string, argv []string) (string, error) {
	if strings.Join(argv, " ") == "-f inet:cidr,inet6:cidr -a" {
		return b.list(jail), nil
	}
	name, argv := argv[0], argv[1:]
	print := ""
	if argv[0] == "create" {
		argv = argv[1:]
		switch name {
		case "bridge":
			name = fmt.Sprintf("bridge%d", len(b.nics))
			b.put(jail, name, &fakeNIC{nic: nic{groups: []string{"bridge"}}, mtu: 1500})
		case "epair":
			unit := fmt.Sprint(b.epairs)
			b.epairs++
			for _, end := range []string{"b", "a"} {
				name = "epair" + unit + end
				b.put(jail, name, &fakeNIC{nic: nic{groups: []string{"epair"}}, mtu: 1500, epair: unit})
			}
		case "lo":
			name = fmt.Sprintf("lo%d", len(b.nics))
			b.put(jail, name, &fakeNIC{nic: nic{groups: []string{"lo"}, loopback: true}, mtu: 16384})
		default:
			return "", errors.New("ifconfig: SIOCIFCREATE2: Invalid argument")
		}
		print = name + "\n"
	}
	n := b.nics[jail+"/"+name]
	if n == nil {
		return "", errors.New("ifconfig: interface " + name + " does not exist")
	}
	if len(argv) > 0 && slices.Contains([]string{"ether", "inet", "inet6"}, argv[0]) {
		rest, err := b.address(n, argv)
		if err != nil {
			return "", err
		}
		argv = rest
	}
	for len(argv) > 0 {
		if slices.Contains([]string{"up", "destroy"}, argv[0]) {
			argv = append([]string{argv[0], ""}, argv[1:]...)
		}
		if len(argv) < 2 {
			return "", fmt.Errorf("ifconfig: '%s' requires argument", argv[0])
		}
		if err := b.set(jail, n, argv[0], argv[1]); err != nil {
			return "", err
		}
		argv = argv[2:]
	}
	if print != "" {
		print = n.name + "\n"
	}
	return print, nil
}

// address does what follows an address family.
func (b *bsd) address(n *fakeNIC, argv []string) (rest []string, err error) {
	switch {
	case argv[0] == "ether":
		n.mac = argv[1]
		return argv[2:], nil
	case argv[0] == "inet6" && (argv[1] == "ifdisabled" || argv[1] == "-ifdisabled"):
		n.inet6 = argv[1] == "-ifdisabled"
		for rest = argv[2:]; len(rest) > 0; rest = rest[1:] {
			if !slices.Contains([]string{"no_dad", "auto_linklocal", "-accept_rtadv"}, rest[0]) {
				return nil, fmt.Errorf("ifconfig: %q", argv)
			}
		}
		return nil, nil
	case argv[2] == "-alias":
		a := netip.MustParseAddr(argv[1])
		n.addrs = slices.DeleteFunc(n.addrs, func(p netip.Prefix) bool { return p.Addr() == a })
		return argv[3:], nil
	}
	text := argv[1]
	argv = argv[2:]
	if argv[0] == "prefixlen" {
		text, argv = text+"/"+argv[1], argv[2:]
	}
	p, err := netip.ParsePrefix(text)
	if err != nil {
		return nil, err
	}
	if argv[0] == "alias" {
		argv = argv[1:]
	}
	n.addrs = append(n.addrs, p)
	return argv, nil
}

func (b *bsd) set(jail string, n *fakeNIC, key, value string) error {
	switch key {
	case "up":
		n.up = true
	case "name":
		if b.nics[jail+"/"+value] != nil {
			return errors.New("ifconfig: ioctl SIOCSIFNAME (set name): File exists")
		}
		b.drop(jail, n.name)
		b.put(jail, value, n)
	case "descr":
		n.descr = value
	case "mtu":
		fmt.Sscan(value, &n.mtu)
	case "group":
		if strings.ContainsAny(value[len(value)-1:], "0123456789") {
			return errors.New("ifconfig: setifgroup: group names may not end in a digit")
		}
		if !slices.Contains(n.groups, value) {
			n.groups = append(n.groups, value)
		}
	case "addm":
		m := b.nics[jail+"/"+value]
		if m == nil {
			return errors.New("ifconfig: BRDGADD " + value + ": No such file or directory")
		}
		for _, x := range b.nics {
			if slices.Contains(x.members, value) {
				return errors.New("ifconfig: BRDGADD " + value + ": Device busy")
			}
		}
		if len(n.members) == 0 {
			n.mtu = m.mtu
		} else if n.mtu != m.mtu {
			return errors.New("ifconfig: BRDGADD " + value + ": Invalid argument")
		}
		n.members = append(n.members, value)
	case "deletem":
		n.members = slices.DeleteFunc(n.members, func(m string) bool { return m == value })
	case "private":
		n.private = append(n.private, value)
	case "vnet":
		if _, there := b.jails[value]; !there {
			return errors.New(`ifconfig: jail "` + value + `" not found`)
		}
		b.drop(jail, n.name)
		b.put(value, n.name, n)
	case "destroy":
		for k, x := range maps.Clone(b.nics) {
			if x == n || n.epair != "" && x.epair == n.epair {
				in, name, _ := strings.Cut(k, "/")
				b.drop(in, name)
			}
		}
	default:
		return fmt.Errorf("ifconfig: %q of %s", key, n.name)
	}
	return nil
}

// on makes a host of brig's on it.
func (b *bsd) on(instance string) *bsdHost {
	return &bsdHost{commands: commands{instance}, log: slog.New(slog.DiscardHandler), run: b.run,
		routes: func(string) ([]netip.Prefix, error) { return nil, nil }, kernel: kmod.Kernel{Has: func(name string) bool { return !slices.Contains(b.unloaded, name) }}}
}

// state lists what of brig's is on the host.
func (b *bsd) state() (out []string) {
	for k, n := range b.nics {
		if k != "/em0" && n.name != "lo0" {
			out = append(out, k)
		}
	}
	for j := range b.jails {
		out = append(out, "jail "+j)
	}
	for a := range b.anchors {
		out = append(out, "anchor "+a)
	}
	slices.Sort(out)
	return out
}
