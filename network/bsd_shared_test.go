package network

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
)

var open2 = bridgeOptions{icc: true}

// sharing makes a host of brig's whose networks are addresses of its own.
func (b *bsd) sharing(instance string) *bsdHost {
	h := b.on(instance)
	h.shared = true
	return h
}

func (n *fakeNIC) has(addr string) bool { return slices.Contains(n.addrs, netip.MustParsePrefix(addr)) }

func TestSharedLife(t *testing.T) {
	b := newBSD()
	h := b.sharing(inst)
	w := testNetwork("br1a2b-00000001", false, "10.0.0.0/24", "fd00:10::/64")
	must(t, h.ensure(w, open2))
	must(t, h.ensure(testNetwork("br1a2b-00000002", false, "10.1.0.0/24"), open2))
	if b.sysctls["net.inet.ip.forwarding"] != "0" {
		t.Error("forwarding has been turned on, which nobody needs")
	}
	l := testLeg("abcdef0123456789", w.Bridge, "eth0", "10.0.0.2/24", "fd00:10::2/64")
	must(t, h.plug(first, []leg{l}, defaults{}))
	jail, lo := h.jail(first), b.nics["/"+w.Bridge]
	if b.addrs[jail] != "10.0.0.2 fd00:10::2" || !lo.has("10.0.0.1/24") || !lo.has("10.0.0.2/32") || !lo.has("fd00:10::2/128") || !lo.inet6 || !lo.up || !lo.loopback {
		t.Errorf("jail %q, interface %+v", b.addrs[jail], lo)
	}
	more := testLeg("bbbbbbbb00000000", "br1a2b-00000002", "eth1", "10.1.0.7/24", "")
	must(t, h.add(first, []leg{more}, defaults{}))
	if b.addrs[jail] != "10.0.0.2,10.1.0.7 fd00:10::2" || !b.nics["/br1a2b-00000002"].has("10.1.0.7/32") {
		t.Errorf("connected: jail %q", b.addrs[jail])
	}
	links, err := h.members()
	if err != nil || links["10.0.0.2"] != w.Bridge || links["fd00:10::2"] != w.Bridge || links["10.1.0.7"] != "br1a2b-00000002" || len(links) != 3 || !h.hasNetns(first) || !h.bridged(w.Bridge) {
		t.Errorf("members %v, %v", links, err)
	}
	// The network is made sure of again with the addresses of containers on it.
	must(t, h.ensure(w, open2))
	keep, bridges := map[brig.ID][]string{first: append(h.linkNames(l.Endpoint), h.linkNames(more.Endpoint)...)}, map[string]bool{w.Bridge: true, "br1a2b-00000002": true}
	if strays, err := h.strays(keep, bridges); err != nil || len(strays) > 0 {
		t.Errorf("strays %q, %v", strays, err)
	}
	must(t, h.unplug(more.Endpoint))
	must(t, h.unplug(more.Endpoint))
	if b.addrs[jail] != "10.0.0.2 fd00:10::2" || b.nics["/br1a2b-00000002"].has("10.1.0.7/32") {
		t.Errorf("disconnected: jail %q", b.addrs[jail])
	}
	must(t, h.release(first))
	must(t, h.release(first))
	if lo.has("10.0.0.2/32") || lo.has("fd00:10::2/128") || !lo.has("10.0.0.1/24") || len(b.jails) > 0 {
		t.Errorf("released: %+v, %v", lo, b.jails)
	}
	must(t, h.remove())
	if got := b.state(); len(got) > 0 {
		t.Errorf("after all: %q", got)
	}
}

// What a killed brigd leaves is found: addresses without a container, jails without one, and an address at another network's interface.
func TestSharedSweepAndHeal(t *testing.T) {
	b := newBSD()
	h := b.sharing(inst)
	must(t, h.ensure(testNetwork("br0", false, "10.0.0.0/24"), open2))
	must(t, h.ensure(testNetwork("br1", false, "10.1.0.0/24"), open2))
	l := testLeg("abcdef01", "br0", "eth0", "10.0.0.2/24", "")
	must(t, h.plug(first, []leg{l}, defaults{}))
	keep, bridges := map[brig.ID][]string{first: h.linkNames(l.Endpoint)}, map[string]bool{"br0": true, "br1": true}
	id := brig.ID("00000000000000020000000000000001")
	must(t, h.all(h.makeJail(id, true), setAddrs(h.jail(id), []netip.Addr{netip.MustParseAddr("10.0.0.9")}), addAddr("br0", netip.MustParsePrefix("10.0.0.9/32"))))
	if removed, err := h.sweep(keep, bridges); err != nil || !removed {
		t.Errorf("%t, %v", removed, err)
	}
	if removed, err := h.sweep(keep, bridges); err != nil || removed || b.nics["/br0"].has("10.0.0.9/32") || !b.nics["/br0"].has("10.0.0.2/32") || len(b.jails) != 1 {
		t.Errorf("again: %t, %v, %+v", removed, err, b.nics["/br0"])
	}
	must(t, h.all(dropAddr("br0", netip.MustParsePrefix("10.0.0.2/32")), addAddr("br1", netip.MustParsePrefix("10.0.0.2/32"))))
	if links, _ := h.members(); links["10.0.0.2"] != "br1" {
		t.Errorf("members %v", links)
	}
	must(t, h.enslave(l))
	if !b.nics["/br0"].has("10.0.0.2/32") || b.nics["/br1"].has("10.0.0.2/32") {
		t.Errorf("not mended: %+v, %+v", b.nics["/br0"], b.nics["/br1"])
	}
	b.drop("", "br0")
	must(t, h.ensure(testNetwork("br0", false, "10.0.0.0/24"), open2))
	must(t, h.add(first, []leg{l}, defaults{}))
	if !b.nics["/br0"].has("10.0.0.2/32") || b.addrs[h.jail(first)] != "10.0.0.2 -" {
		t.Errorf("not made again: %+v, jail %q", b.nics["/br0"], b.addrs[h.jail(first)])
	}
}

func TestSharedUndoesWhatFails(t *testing.T) {
	for _, step := range []string{"jail -c", "jail -m", "10.0.0.2/32 alias", "fd00:10::2 prefixlen"} {
		b := newBSD()
		h := b.sharing(inst)
		must(t, h.ensure(testNetwork("br0", false, "10.0.0.0/24", "fd00:10::/64"), open2))
		before := slices.Clone(b.nics["/br0"].addrs)
		b.fail = step
		if err := h.plug(first, []leg{testLeg("abcdef01", "br0", "eth0", "10.0.0.2/24", "fd00:10::2/64")}, defaults{}); !says(err, "Input/output error") {
			t.Errorf("%q: %v", step, err)
		}
		b.fail = ""
		must(t, h.release(first))
		if got := b.nics["/br0"].addrs; !slices.Equal(got, before) || len(b.jails) > 0 {
			t.Errorf("%q leaves %v, %v", step, got, b.jails)
		}
	}
	b := newBSD()
	if err := b.sharing(inst).ensure(testNetwork("em0", false, "10.0.0.0/24"), open2); errs.KindOf(err) != errs.Forbidden {
		t.Errorf("em0 is taken for a loopback interface: %v", err)
	}
}

func TestParseAddrs(t *testing.T) {
	if got, err := parseAddrs("10.0.0.2,10.0.0.3 fd00::1\n"); err != nil || len(got) != 3 {
		t.Error(got, err)
	}
	if got, err := parseAddrs("- -\n"); err != nil || got != nil {
		t.Error(got, err)
	}
	if _, err := parseAddrs("10.0.0 -\n"); err == nil {
		t.Error("no error")
	}
}

// What leaves, and what comes in, by the rules of shared networks.
func TestPfShared(t *testing.T) {
	apart, inner := testBridge("br0", "10.0.0.0/24"), testBridge("br1", "10.1.0.0/24")
	inner.internal = true
	p := pfPlan{instance: inst, shared: true, bridges: []bridge{apart, inner, testBridge("br2", "10.2.0.0/24")}, outward: map[bool][]string{true: {"em0"}},
		forwards: []forward{testForward("tcp", "0.0.0.0", 80, "10.0.0.2", 8000)}}
	text, err := p.text()
	must(t, err)
	host, outside := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("198.51.100.7")
	r := read(t, text, host)
	at := netip.MustParseAddr
	groups := func(name string) []string { return []string{"lo", groupOf(name)} }
	for _, c := range []struct {
		what string
		packet
		out, pass bool
	}{
		{"from outside to an address that nothing is published of", packet{in: "em0", src: outside, dst: at("10.0.0.2"), proto: "tcp", port: 8000}, false, false},
		{"in one network", packet{in: "br0", groups: groups("br0"), src: at("10.0.0.2"), dst: at("10.0.0.3"), proto: "tcp", port: 9}, true, true},
		{"delivered there", packet{in: "br0", groups: groups("br0"), src: at("10.0.0.2"), dst: at("10.0.0.3"), proto: "tcp", port: 9}, false, true},
		{"from another network", packet{in: "br0", groups: groups("br0"), src: at("10.2.0.2"), dst: at("10.0.0.3"), proto: "tcp", port: 9}, true, false},
		{"into an internal network", packet{in: "br1", groups: groups("br1"), src: at("10.2.0.2"), dst: at("10.1.0.3"), proto: "udp", port: 9}, true, false},
		{"out of an internal network", packet{in: "em0", src: at("10.1.0.2"), dst: outside, proto: "tcp", port: 9}, true, false},
		{"out of an internal network to the host", packet{in: "lo0", groups: []string{"lo"}, src: at("10.1.0.2"), dst: host, proto: "tcp", port: 9}, true, false},
		{"within an internal network", packet{in: "br1", groups: groups("br1"), src: at("10.1.0.2"), dst: at("10.1.0.3"), proto: "tcp", port: 9}, true, true},
		{"to the gateway for names", packet{in: "br0", groups: groups("br0"), src: at("10.0.0.2"), dst: at("10.0.0.1"), proto: "udp", port: 53}, true, true},
		{"to an address that nobody has", packet{in: "em0", src: at("10.0.0.2"), dst: at("10.2.0.77"), proto: "tcp", port: 9}, true, false},
		{"out", packet{in: "em0", src: at("10.0.0.2"), dst: outside, proto: "tcp", port: 9}, true, true},
	} {
		if _, pass := r.moves(c.packet, c.out); pass != c.pass {
			t.Errorf("%s: passes %t\n%s", c.what, pass, text)
		}
	}
	in := packet{in: "em0", src: outside, dst: host, proto: "tcp", port: 80}
	if got, pass := r.enters(in); !pass || got.dst != at("10.0.0.2") || got.port != 8000 {
		t.Errorf("a published port: %+v, %t", got, pass)
	}
	in.in, in.groups = "lo0", []string{"lo"}
	if got, _ := r.enters(in); got.dst != host {
		t.Errorf("the host's own connection is led away: %+v", got)
	}
	if strings.Contains(text, "near") {
		t.Error(text)
	}
}
