package network

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
)

const (
	inst  = "1a2b3c4d"
	first = brig.ID("00000000000000010000000000000001")
)

func testNetwork(bridge string, internal bool, nets ...string) *brig.Network {
	w := &brig.Network{Bridge: bridge, Internal: internal}
	for _, n := range nets {
		p := netip.MustParsePrefix(n)
		w.Subnets, w.IPv6 = append(w.Subnets, brig.Subnet{Prefix: p, Gateway: p.Addr().Next()}), w.IPv6 || p.Addr().Is6()
	}
	return w
}

func testLeg(ep brig.ID, bridge, iface, addr4, addr6 string) leg {
	l := leg{Endpoint: brig.Endpoint{EndpointID: ep, Iface: iface, MAC: "02:42:0a:00:00:02", Addr4: netip.MustParsePrefix(addr4)}, bridge: bridge}
	if addr6 != "" {
		l.Addr6 = netip.MustParsePrefix(addr6)
	}
	return l
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestBSDLife(t *testing.T) {
	b := newBSD()
	h := b.on(inst)
	name, ep := h.bridgeName(), brig.ID("abcdef0123456789")
	must(t, h.ensure(testNetwork(name, false, "172.17.0.0/16", "fd00:17::/64"), bridgeOptions{}))
	if b.sysctls["net.inet.ip.forwarding"] != "1" || b.sysctls["net.inet6.ip6.forwarding"] != "1" {
		t.Errorf("the host forwards nothing: %v", b.sysctls)
	}
	l := testLeg(ep, name, "eth0", "172.17.0.2/16", "fd00:17::2/64")
	l.mtu, l.isolated = 1400, true
	gw := netip.MustParseAddr("172.17.0.1")
	must(t, h.plug(first, []leg{l}, defaults{[]route{{"eth0", gw}, {"eth0", netip.MustParseAddr("fd00:17::1")}}, []string{"eth0"}}))
	must(t, h.program([]bridge{testBridge(name, "172.17.0.0/16")}, nil))

	jail := "brignet-1a2b3c4d-0000000000000001"
	inner, outer, br := b.nics[jail+"/eth0"], b.nics["/v1a2b-abcdef01"], b.nics["/"+name]
	if inner == nil || outer == nil || br == nil {
		t.Fatalf("there is %q\n%s", b.state(), b.list(""))
	}
	if inner.mac != l.MAC || inner.mtu != 1400 || !inner.up || !inner.inet6 || fmt.Sprint(inner.addrs) != "[172.17.0.2/16 fd00:17::2/64]" || outer.mtu != 1400 || !outer.up {
		t.Errorf("inside %+v, outside %+v", inner, outer)
	}
	if !slices.Contains(outer.groups, groupOf(name)) || !slices.Contains(br.groups, groupOf(name)) || !slices.Equal(br.members, []string{outer.name}) || !slices.Equal(br.private, br.members) {
		t.Errorf("the bridge %+v, its member %+v", br, outer)
	}
	if lo := b.nics[jail+"/lo0"]; !lo.up || len(lo.addrs) != 1 || b.sysctls[jail+" net.inet.ip.portrange.reservedhigh"] != "0" || b.routes[jail+"-inet"].via != gw || b.routes[jail+"-inet6"].iface != "eth0" {
		t.Errorf("lo0 %+v, routes %v", lo, b.routes)
	}
	if got, err := h.members(); err != nil || got[outer.name] != name || !h.hasNetns(first) || h.hasNetns("ffffffffffffffff") || !h.bridged(name) {
		t.Errorf("members %v, %v", got, err)
	}
	if gone := h.missing(); len(gone) > 0 {
		t.Errorf("missing: %q", gone)
	}
	second := testLeg("1111111122222222", name, "eth1", "172.17.0.3/16", "")
	second.mtu = 1400
	must(t, h.add(first, []leg{second}, defaults{[]route{{"eth1", netip.MustParseAddr("172.17.0.9")}}, []string{"eth0", "eth1"}}))
	if r := b.routes[jail+"-inet"]; r.via.String() != "172.17.0.9" || b.routes[jail+"-inet6"].iface != "" || b.nics[jail+"/eth1"].inet6 {
		t.Errorf("after another link: routes %v", b.routes)
	}
	must(t, h.unplug(second.Endpoint))
	must(t, h.unplug(second.Endpoint))
	if strays, err := h.strays(map[brig.ID][]string{first: {h.vethName(ep)}}, map[string]bool{name: true}); err != nil || len(strays) > 0 {
		t.Errorf("strays %q, %v", strays, err)
	}
	must(t, h.release(first))
	must(t, h.release(first))
	if got := b.state(); !slices.Equal(got, []string{"/" + name, "anchor brig/" + inst}) {
		t.Errorf("after the container: %q", got)
	}
	must(t, h.remove())
	if got := b.state(); len(got) > 0 || len(b.back) > 0 {
		t.Errorf("after all: %q", got)
	}
}

// A route by an interface of the container's own is left alone.
func TestBSDRoutesOfContainers(t *testing.T) {
	b := newBSD()
	h := b.on(inst)
	must(t, h.ensure(testNetwork("br0", false, "10.0.0.0/24"), bridgeOptions{}))
	must(t, h.plug(first, []leg{testLeg("abcdef01", "br0", "eth0", "10.0.0.2/24", "")}, defaults{nil, []string{"eth0"}}))
	jail := h.jail(first)
	b.put(jail, "tun0", &fakeNIC{nic: nic{addrs: []netip.Prefix{netip.MustParsePrefix("10.5.0.2/24")}}})
	own := route{"tun0", netip.MustParseAddr("10.5.0.1")}
	b.routes[jail+"-inet"] = own
	must(t, h.reroute(first, defaults{[]route{{"eth0", netip.MustParseAddr("10.0.0.1")}}, []string{"eth0"}}))
	if b.routes[jail+"-inet"] != own {
		t.Errorf("routes %v", b.routes)
	}
}

// Whatever step fails, nothing but the jail is left, and release takes that.
func TestBSDUndoesWhatFails(t *testing.T) {
	for _, step := range []string{"epair create", " name v1a2b", "addm", " vnet ", " name eth0", "ifconfig eth0 inet ", "ifconfig eth0 up", "route -n add", "lo0 inet", "jail -c"} {
		b := newBSD()
		h := b.on(inst)
		must(t, h.ensure(testNetwork("br0", false, "10.0.0.0/24"), bridgeOptions{}))
		before := b.state()
		b.fail = step
		err := h.plug(first, []leg{testLeg("abcdef01", "br0", "eth0", "10.0.0.2/24", "")}, defaults{[]route{{"eth0", netip.MustParseAddr("10.0.0.1")}}, []string{"eth0"}})
		if !says(err, "Input/output error") {
			t.Errorf("%q: %v", step, err)
		}
		b.fail = ""
		if step != "route -n add" { // then the link is there, and its jail too
			for _, s := range b.state() {
				if !slices.Contains(before, s) && s != "jail "+h.jail(first) {
					t.Errorf("%q leaves %s", step, s)
				}
			}
		}
		must(t, h.release(first))
		if got := b.state(); !slices.Equal(got, before) {
			t.Errorf("%q leaves %q", step, got)
		}
	}
}

// What a killed brigd leaves at any step is found by what is written on it, and nothing of others is.
func TestBSDSweep(t *testing.T) {
	b := newBSD()
	h, other := b.on(inst), b.on("99999999")
	must(t, h.ensure(testNetwork(h.bridgeName(), false, "10.0.0.0/24"), bridgeOptions{}))
	must(t, h.ensure(testNetwork("users0", false, "10.1.0.0/24"), bridgeOptions{})) // known by its description alone
	must(t, other.ensure(testNetwork(other.bridgeName(), false, "10.2.0.0/24"), bridgeOptions{}))
	must(t, other.plug(first, []leg{testLeg("abcdef01", other.bridgeName(), "eth0", "10.2.0.2/24", "")}, defaults{}))
	must(t, h.plug(first, []leg{testLeg("abcdef02", h.bridgeName(), "eth0", "10.0.0.2/24", "")}, defaults{}))
	kept := b.state()
	id := brig.ID("00000000000000020000000000000001")
	for step := range 3 {
		out, err := h.do(h.makeEpair(id, &brig.Endpoint{EndpointID: "abcdef03"})...)
		must(t, err)
		a, end, err := parseCreated(out)
		must(t, err)
		l := testLeg("abcdef03", h.bridgeName(), "eth0", "10.0.0.3/24", "")
		if step > 0 {
			must(t, h.all(h.makeJail(id, false), h.hostEnd(a, &l)))
		}
		if step > 1 {
			must(t, h.all(h.join(&l), moveIn(end, h.jail(id)), inJail(h.jail(id), innerEnd(end, &l))))
		}
		keep, bridges := map[brig.ID][]string{first: {h.vethName("abcdef02")}}, map[string]bool{h.bridgeName(): true, "users0": true}
		if removed, err := h.sweep(keep, bridges); err != nil || !removed {
			t.Errorf("step %d: %t, %v", step, removed, err)
		}
		if got := b.state(); !slices.Equal(got, kept) {
			t.Errorf("step %d: %q are left, not %q", step, got, kept)
		}
		if removed, err := h.sweep(keep, bridges); err != nil || removed {
			t.Errorf("step %d, once more: %t, %v", step, removed, err)
		}
	}
	if len(b.back) > 0 {
		t.Errorf("%q came back from jails that ended before their links", b.back)
	}
	b.jails[h.jail(first)] = 1 // a jail of a container lives in it, but no record is there
	must(t, h.remove())
	for _, s := range b.state() {
		if !strings.Contains(s, "99999999") && !strings.HasPrefix(s, "/v9999") && s != "jail "+h.jail(first) {
			t.Errorf("%s is left", s)
		}
	}
	if _, there := b.jails[h.jail(first)]; !there {
		t.Error("a container's jail was ended")
	}
}

func TestBSDHeals(t *testing.T) {
	b := newBSD()
	h := b.on(inst)
	w := testNetwork("br0", false, "10.0.0.0/24")
	must(t, h.ensure(w, bridgeOptions{}))
	l := testLeg("abcdef01", "br0", "eth0", "10.0.0.2/24", "")
	must(t, h.plug(first, []leg{l}, defaults{}))
	bs := []bridge{testBridge("br0", "10.0.0.0/24")}
	must(t, h.program(bs, nil))
	for _, c := range []struct {
		what string
		harm func()
	}{
		{"rules are flushed", func() { delete(b.anchors, pfAnchor(inst)) }},
		{"rules are changed", func() { b.anchors[pfAnchor(inst)] += "pass in all\n" }},
		{"another way out", func() {
			b.put("", "em1", &fakeNIC{nic: nic{up: true, addrs: []netip.Prefix{netip.MustParsePrefix("198.51.100.1/24")}}})
		}},
		{"local answers are seen", func() { b.sysctls["net.pf.filter_local"] = "1" }},
		{"and no longer, on lo0", func() { b.skip = true }},
		{"a bridge without a group", func() { b.nics["/br0"].groups = []string{"bridge"} }},
		{"a bridge that is gone", func() { b.drop("", "br0") }},
		{"a bridge that is down", func() { b.nics["/br0"].up = false }},
		{"a link outside", func() { b.nics["/br0"].members = nil }},
		{"a link without a group", func() { b.nics["/v1a2b-abcdef01"].groups = []string{"epair"} }},
	} {
		what := c.what
		c.harm()
		links, err := h.members()
		must(t, err)
		if len(h.missing()) == 0 && h.bridged("br0") && links["v1a2b-abcdef01"] == "br0" {
			t.Errorf("%s: nobody notices", what)
		}
		must(t, h.ensure(w, bridgeOptions{})) // as remake does
		if links, err = h.members(); err != nil || links["v1a2b-abcdef01"] != "br0" {
			must(t, h.enslave(l))
		}
		must(t, h.program(bs, nil))
		links, err = h.members()
		must(t, err)
		if gone := h.missing(); len(gone) > 0 || !h.bridged("br0") || links["v1a2b-abcdef01"] != "br0" || len(b.nics["/br0"].addrs) != 1 {
			t.Errorf("%s: not mended: %q, %v, %+v", what, gone, links, b.nics["/br0"])
		}
	}
}

func TestBSDFirewallIsAsked(t *testing.T) {
	w := testNetwork("br0", false, "10.0.0.0/24")
	for what, c := range map[string]struct {
		harm func(*bsd)
		want string
	}{
		"no module": {func(b *bsd) { b.unloaded, b.pf = []string{"if_epair"}, false },
			`kernel module if_epair is missing: load-modules is false (kldload if_epair; sysrc kld_list+="if_epair")`},
		"off":        {func(b *bsd) { b.pf = false }, "pf is off (service pf enable; service pf start)"},
		"no anchors": {func(b *bsd) { b.main = "anchor \"other/*\" all\n" }, `pf.conf lacks nat-anchor "brig/*" and rdr-anchor "brig/*" and anchor "brig/*"`},
		"one is not": {func(b *bsd) {
			b.main = "nat-anchor \"brig/*\" all\nrdr-anchor \"brig/*\" all\nanchor \"brig/*x\" all\n"
		}, `pf.conf lacks anchor "brig/*":`},
	} {
		b := newBSD()
		c.harm(b)
		h := b.on(inst)
		err := h.ensure(w, bridgeOptions{})
		if !says(err, c.want) || errs.KindOf(err) != errs.Unavailable || len(b.state()) > 0 {
			t.Errorf("%s: %v; %q is there", what, err, b.state())
		}
		if notes := h.notes(false); what != "no module" && (len(notes) == 0 || !strings.Contains(notes[0].String(), c.want)) { // modules are hostcheck's
			t.Errorf("%s: notes %q", what, notes)
		}
	}
	b := newBSD()
	h := b.on(inst)
	if notes := h.notes(true); len(notes) != 2 || !strings.Contains(notes[0].String(), "sysctl net.inet.ip.forwarding=1") || !strings.Contains(notes[1].String(), "no net.pf.filter_local") {
		t.Errorf("notes %q", notes)
	}
	b.sysctls["net.pf.filter_local"], b.sysctls["net.inet.ip.forwarding"] = "0", "1"
	if notes := h.notes(true); len(notes) != 1 || !strings.Contains(notes[0].String(), "(sysctl net.pf.filter_local=1;") {
		t.Errorf("notes %q", notes)
	}
	b.sysctls["net.pf.filter_local"], b.skip = "1", true
	if notes := h.notes(true); len(notes) != 1 || !strings.Contains(notes[0].String(), "skip lo0") {
		t.Errorf("notes %q", notes)
	}
	b.skip = false
	if notes := h.notes(true); len(notes) > 0 {
		t.Errorf("notes %q", notes)
	}
}

// Names that a request chooses don't get to be options of programs, nor settings be passed over.
func TestBSDRefuses(t *testing.T) {
	b := newBSD()
	h := b.on(inst)
	for _, name := range []string{"-a", "a b", `a"b`} {
		if err := h.ensure(testNetwork(name, false, "10.0.0.0/24"), bridgeOptions{}); errs.KindOf(err) != errs.Invalid {
			t.Errorf("bridge %q: %v", name, err)
		}
	}
	if err := h.ensure(testNetwork("em0", false, "10.0.0.0/24"), bridgeOptions{}); errs.KindOf(err) != errs.Forbidden {
		t.Errorf("em0 is taken for a bridge: %v", err)
	}
	must(t, h.ensure(testNetwork("br0", false, "10.0.0.0/24"), bridgeOptions{}))
	for want, change := range map[errs.Kind]func(*leg){
		errs.Invalid:        func(l *leg) { l.Iface = "-l" },
		errs.NotImplemented: func(l *leg) { l.Spec.DriverOpts = map[string]string{optSysctls: "net.ipv4.conf.IFNAME.log_martians=1"} },
	} {
		l := testLeg("abcdef01", "br0", "eth0", "10.0.0.2/24", "")
		change(&l)
		if err := h.plug(first, []leg{l}, defaults{}); errs.KindOf(err) != want {
			t.Errorf("%v: %v", want, err)
		}
	}
	if err := h.bind("00000000000000090000", 7); errs.KindOf(err) != errs.NotImplemented {
		t.Errorf("a jail that has no stack of its own: %v", err)
	}
}

// A host that can't be asked, on a machine that is too busy, is no host without a bridge: nothing of networks that work is made again.
func TestBSDUnknownIsNotGone(t *testing.T) {
	b := newBSD()
	h := b.on(inst)
	w := testNetwork("br0", false, "10.0.0.0/24")
	must(t, h.ensure(w, bridgeOptions{}))
	b.fail = "ifconfig -f"
	if !h.bridged(w.Bridge) {
		t.Error("a bridge counts as gone because ifconfig fails")
	}
	b.fail = ""
	b.drop("", w.Bridge)
	if h.bridged(w.Bridge) {
		t.Error("a bridge that is gone isn't missed")
	}
}

// Somebody else loads rules of pf at the same time: brig's are loaded after his.
func TestBSDRulesAfterOthers(t *testing.T) {
	b := newBSD()
	h := b.on(inst)
	must(t, h.ensure(testNetwork("br0", false, "10.0.0.0/24"), bridgeOptions{}))
	b.busy = 3
	must(t, h.program([]bridge{testBridge("br0", "10.0.0.0/24")}, nil))
	if b.busy != 0 || len(h.missing()) > 0 {
		t.Errorf("%d tries are left, %q is missing", b.busy, h.missing())
	}
}
