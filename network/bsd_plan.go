package network

import (
	"net/netip"
	"slices"
	"strconv"

	"github.com/brigd/brig/internal/brig"
)

// What FreeBSD is asked for: programs of its base system and their arguments. A container's network stack belongs to a jail made for it alone,
// whose root is the host's: these programs run in it (jexec(8)) whatever the container's own image has. Every command is one process, which a
// kill of brigd doesn't interrupt, and what it makes carries the instance's mark from the first.

// commands names what an instance has on a FreeBSD host.
type commands struct{ instance string }

func (c commands) bridgeName() string           { return "brig-" + c.instance }
func (c commands) bridgePrefix() string         { return "br" + c.instance[:4] + "-" }
func (c commands) userBridge(id brig.ID) string { return c.bridgePrefix() + string(id[:8]) }
func (c commands) linkPrefix() string           { return "v" + c.instance[:4] + "-" }
func (c commands) vethName(ep brig.ID) string   { return c.linkPrefix() + string(ep[:8]) }

// mark is the description of the instance's bridges; those of its epairs begin with it (brig.LinkMark).
func (c commands) mark() string { return brig.LinkMark{Instance: c.instance}.String() }
func (c commands) markOf(id brig.ID, ep *brig.Endpoint) string {
	return brig.LinkMark{Instance: c.instance, Container: string(id[:16]), Endpoint: string(ep.EndpointID[:8]), Iface: ep.Iface}.String()
}

// jail names the jail that holds a container's network stack; jails of containers begin otherwise.
func (c commands) jail(id brig.ID) string { return c.jailPrefix() + string(id[:16]) }
func (c commands) jailPrefix() string     { return "brignet-" + c.instance + "-" }

// listNICs prints addresses in one form, whatever IFCONFIG_FORMAT says.
func listNICs() []string { return []string{"ifconfig", "-f", "inet:cidr,inet6:cidr", "-a"} }

func listJails() []string { return []string{"jls", "name"} }

// makeBridge makes a bridge with an address of its own: the kernel's is another one after each boot.
func (c commands) makeBridge(name, mac string) []string {
	return []string{"ifconfig", "bridge", "create", "ether", mac, "name", name, "descr", c.mark(), "group", groupOf(name), "up"}
}

// takeBridge brings up a bridge that is there.
func takeBridge(name string) []string {
	return []string{"ifconfig", name, "group", groupOf(name), "up"}
}

// destroy removes a bridge, or an epair with both its ends, wherever the other one is.
func destroy(name string) []string { return []string{"ifconfig", name, "destroy"} }

func af(a netip.Addr) string {
	if a.Is4() {
		return "inet"
	}
	return "inet6"
}

// addAddr gives an interface an address beside those that it has.
func addAddr(name string, p netip.Prefix) []string {
	if p.Addr().Is4() {
		return []string{"ifconfig", name, "inet", p.String(), "alias"}
	}
	return []string{"ifconfig", name, "inet6", p.Addr().WithZone("").String(), "prefixlen", strconv.Itoa(p.Bits()), "alias"}
}

func dropAddr(name string, p netip.Prefix) []string {
	return []string{"ifconfig", name, af(p.Addr()), p.Addr().WithZone("").String(), "-alias"}
}

// useIPv6 lets an interface have IPv6: nobody else has its addresses, and one that is being looked for can't be bound.
func useIPv6(name string) []string {
	return []string{"ifconfig", name, "inet6", "-ifdisabled", "no_dad", "auto_linklocal", "-accept_rtadv"}
}

func refuseIPv6(name string) []string { return []string{"ifconfig", name, "inet6", "ifdisabled"} }

// makeEpair prints the name of its first end.
func (c commands) makeEpair(id brig.ID, ep *brig.Endpoint) []string {
	return []string{"ifconfig", "epair", "create", "descr", c.markOf(id, ep)}
}

// hostEnd names the first end, and makes it fit for its bridge: members must have the same MTU. It gets an address of its own, since the
// kernel gives some to several.
func (c commands) hostEnd(end string, l *leg) []string {
	out := []string{"ifconfig", end, "ether", linkMAC(l.EndpointID), "name", c.vethName(l.EndpointID), "group", groupOf(l.bridge)}
	return append(append(out, mtu(l)...), "up")
}

// linkMAC derives a locally administered address from an endpoint's ID, with another beginning than containers' (macFor).
func linkMAC(ep brig.ID) string {
	return "02:b1:" + string(ep[0:2]) + ":" + string(ep[2:4]) + ":" + string(ep[4:6]) + ":" + string(ep[6:8])
}

func mtu(l *leg) []string { return mtuArgs(l.mtu) }

func mtuArgs(n int) []string {
	if n == 0 {
		return nil
	}
	return []string{"mtu", strconv.Itoa(n)}
}

// join puts a link into its bridge, away from others' links in it if it is isolated.
func (c commands) join(l *leg) []string {
	name := c.vethName(l.EndpointID)
	out := []string{"ifconfig", l.bridge, "addm", name}
	if l.isolated {
		out = append(out, "private", name)
	}
	return out
}

func leaveBridge(bridge, name string) []string { return []string{"ifconfig", bridge, "deletem", name} }

// joinGroup tells the firewall of a link's bridge.
func joinGroup(name, bridge string) []string {
	return []string{"ifconfig", name, "group", groupOf(bridge)}
}

// netChildren is how many jails may have a container's network stack: its own, and those that share it.
const netChildren = 100

// makeJail makes the jail that holds a network stack. Nobody runs in it but commands of these. A jail may have no more rights than its parent:
// it has what containers can ask for.
func (c commands) makeJail(id brig.ID, shared bool) []string {
	out := []string{"jail", "-c", "name=" + c.jail(id), "path=/", "persist"}
	if shared { // what it has can't be inherited any more later: it begins with no address
		out = append(out, "ip4.addr=", "ip6.addr=")
	} else {
		out = append(out, "vnet")
	}
	out = append(out, "children.max="+strconv.Itoa(netChildren), "enforce_statfs=0", "sysvmsg=inherit", "sysvsem=inherit", "sysvshm=inherit")
	for _, p := range []string{"chflags", "mlock", "quotas", "raw_sockets", "read_msgbuf", "reserved_ports", "set_hostname", "socket_af", "suser", "unprivileged_proc_debug"} {
		out = append(out, "allow."+p)
	}
	return out
}

// removeJail also removes those in it, and ends who runs there. It reads no jail.conf(5).
func removeJail(name string) []string { return []string{"jail", "-R", name} }

// inJail runs a program of the host's in a jail.
func inJail(name string, argv []string) []string {
	return append([]string{"jexec", name}, argv...)
}

func loopbackUp() []string { return []string{"ifconfig", "lo0", "inet", "127.0.0.1/8", "up"} }

// openPorts lets everybody in a network stack of its own have ports below 1024, as Docker does with net.ipv4.ip_unprivileged_port_start.
func openPorts() []string { return []string{"sysctl", "net.inet.ip.portrange.reservedhigh=0"} }

// moveIn gives a jail's network stack an interface.
func moveIn(end, jail string) []string { return []string{"ifconfig", end, "vnet", jail} }

// innerEnd gives the end inside its name and its address on the wire; addresses come after it.
func innerEnd(end string, l *leg) []string {
	return append([]string{"ifconfig", end, "ether", l.MAC, "name", l.Iface}, mtu(l)...)
}

func bringUp(name string) []string { return []string{"ifconfig", name, "up"} }

func getDefault(is4 bool) []string { return []string{"route", "-n", "get", family4(is4), "default"} }
func dropDefault(is4 bool) []string {
	return []string{"route", "-n", "delete", family4(is4), "default"}
}
func addDefault(gw netip.Addr) []string {
	return []string{"route", "-n", "add", family4(gw.Is4()), "default", gw.String()}
}

func family4(is4 bool) string {
	if is4 {
		return "-inet"
	}
	return "-inet6"
}

// configure lists what gives an interface inside, which has its name, its addresses.
func (l *leg) configure(linkLocal []netip.Prefix, hasIPv6 bool) (out [][]string) {
	switch {
	case l.Addr6.IsValid():
		out = append(out, useIPv6(l.Iface))
	case hasIPv6:
		out = append(out, refuseIPv6(l.Iface))
	}
	for _, p := range slices.Concat([]netip.Prefix{l.Addr4, l.Addr6}, linkLocal) {
		if p.IsValid() {
			out = append(out, addAddr(l.Iface, p))
		}
	}
	return append(out, bringUp(l.Iface))
}

// pfctl's commands.
func loadRules(instance string) []string {
	return []string{"pfctl", "-a", pfAnchor(instance), "-f", "-"}
}
func dropRules(instance string) []string {
	return []string{"pfctl", "-a", pfAnchor(instance), "-F", "all"}
}
func showRules(instance string) [][]string {
	return [][]string{{"pfctl", "-a", pfAnchor(instance), "-s", "nat"}, {"pfctl", "-a", pfAnchor(instance), "-s", "rules"}}
}
func showMain() [][]string { return [][]string{{"pfctl", "-s", "nat"}, {"pfctl", "-s", "rules"}} }
func showStatus() []string { return []string{"pfctl", "-s", "info"} }

// showLoopback prints "(skip)" where pf.conf has pf pass lo0 over.
func showLoopback() []string { return []string{"pfctl", "-v", "-s", "Interfaces", "-i", "lo0"} }

func getSysctl(name string) []string        { return []string{"sysctl", "-n", name} }
func setSysctl(name, value string) []string { return []string{"sysctl", name + "=" + value} }
