package network

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/netip"
	"regexp"
	"strings"

	"github.com/brigd/brig/internal/errs"
)

// pfAnchors are the lines that the host's pf.conf(5) must have, in this order: what brig writes lies in the anchors beneath them.
var pfAnchors = []string{`nat-anchor "brig/*"`, `rdr-anchor "brig/*"`, `anchor "brig/*"`}

// pfAnchor is where an instance's rules lie.
func pfAnchor(instance string) string { return "brig/" + instance }

// pfPlan is all that an instance's rules in pf are made from: the same bridges and forwards as nftables' rules are on Linux.
//
//	nat, rdr   what leaves the host has its address; what is published is led to its container, with a tag
//	block      into a network come replies, what the host itself sends, and what has the tag; nothing leaves or enters an internal one
//	pass       what the above lets through, for hosts whose own rules block by default; no rule says quick, so that later ones
//	           of the host's may say otherwise
//
// Networks are kept apart where packets come in, since pf can't tell there what the host itself sends from what it forwards on the way out.
// A bridge and its members are in a group of their own (groupOf): pf looks at packets between two members too, on both.
//
// With shared networks all packets between containers, and from and to the host, leave by the loopback interface of the address that they go to.
// There strangers are blocked; what comes from outside is delivered without leaving.
type pfPlan struct {
	instance string
	bridges  []bridge
	forwards []forward
	outward  map[bool][]string // the host's own interfaces, by whether they have IPv4 (true) or IPv6 addresses (false)
	shared   bool              // networks are loopback interfaces of the host's: see bsd_shared.go
	local    bool              // what is led elsewhere comes back to the host's own connections: net.pf.filter_local
}

// plainName is what pf.conf(5) takes for a name, in quotes, with nothing in it that its parser reads otherwise.
var plainName = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9._-]{0,14}$`)

// groupOf names the interface group of a bridge and its members: at most 15 bytes, and it may not end in a digit (ifconfig(8)).
func groupOf(bridge string) string {
	sum := sha256.Sum256([]byte(bridge))
	return "b" + hex.EncodeToString(sum[:6]) + "x"
}

// text is the plan for pfctl -f.
func (p *pfPlan) text() (string, error) {
	if !plainName.MatchString("i" + p.instance) {
		return "", errs.New(errs.Invalid, "the instance %q can't be named in pf.conf", p.instance)
	}
	for _, b := range p.bridges {
		if !plainName.MatchString(b.name) {
			return "", errs.New(errs.Invalid, "the interface %q can't be named in pf.conf", b.name)
		}
	}
	w := &pfWriter{pfPlan: p}
	families := []pfFamily{{w, true, "inet"}, {w, false, "inet6"}}
	for _, part := range []func(pfFamily){pfFamily.tables, pfFamily.nat, pfFamily.rdr, pfFamily.block, pfFamily.pass} { // pf wants translation before filters
		for _, f := range families {
			part(f)
		}
	}
	return w.b.String(), nil
}

type pfWriter struct {
	*pfPlan
	b strings.Builder
}

func (w *pfWriter) line(format string, args ...any) { fmt.Fprintf(&w.b, format+"\n", args...) }

// in tags what has been led to a container, out what leaves with the host's address.
func (w *pfWriter) in() string  { return `"brig_` + w.instance + `_in"` }
func (w *pfWriter) out() string { return `"brig_` + w.instance + `_out"` }

// pfFamily writes the rules of one address family.
type pfFamily struct {
	*pfWriter
	is4 bool
	af  string
}

// ofBridge is what a family's rules have to know of a network.
type ofBridge struct {
	*bridge
	net        string // subnet
	gw         string
	group      string
	nets, near string // tables: the subnet without the gateway, and what an internal network's containers may send to
}

func (f pfFamily) each(do func(ofBridge)) {
	for i := range f.bridges {
		b := &f.bridges[i]
		for j, n := range b.nets {
			if n.Addr().Is4() != f.is4 {
				continue
			}
			g := groupOf(b.name)
			tail := g[1:13] + "_" + f.af
			do(ofBridge{b, n.Masked().String(), b.gateways[j].String(), g, "<net_" + tail + ">", "<near_" + tail + ">"})
		}
	}
}

// masked is the table of subnets whose packets leave with the host's address; "" if there are none.
func (f pfFamily) masked() string {
	for i := range f.bridges {
		if b := &f.bridges[i]; b.masquerade && !b.internal && b.of(f.is4).IsValid() {
			return "<masked_" + f.af + ">"
		}
	}
	return ""
}

func (f pfFamily) tables() {
	var masked []string
	f.each(func(b ofBridge) {
		f.line("table %s const { %s, !%s }", b.nets, b.net, b.gw)
		if b.masquerade && !b.internal {
			masked = append(masked, b.net)
		}
		if b.internal && !f.shared {
			everybody := "224.0.0.0/4, 255.255.255.255"
			if !f.is4 {
				everybody = "fe80::/10, ff00::/8"
			}
			f.line("table %s const { %s, %s }", b.near, b.net, everybody)
		}
	})
	if t := f.masked(); t != "" {
		f.line("table %s const { %s }", t, strings.Join(masked, ", "))
	}
}

func (f pfFamily) nat() {
	if t := f.masked(); t != "" {
		for _, name := range f.outward[f.is4] {
			if plainName.MatchString(name) {
				f.line(`nat on "%s" %s from %s to any tag %s -> ("%s:0")`, name, f.af, t, f.out(), name)
			}
		}
	}
	if f.shared {
		return
	}
	f.each(func(b ofBridge) {
		if f.is4 && f.local {
			f.line(`nat on "%s" inet from 127.0.0.0/8 to %s -> %s`, b.name, b.net, b.gw)
		}
		if t := f.masked(); t != "" {
			f.line(`nat on "%s" %s from %s to %s tagged %s -> %s`, b.name, f.af, t, b.net, f.in(), b.gw)
		}
		if !b.masquerade || b.internal {
			f.line(`nat on "%s" %s from %s to %s tagged %s -> %s`, b.name, f.af, b.net, b.net, f.in(), b.gw)
		}
	})
}

// led are the forwards that pf can lead to their containers: the others are relayed (keep.go).
func (f pfFamily) led() (out []forward) {
	for _, x := range f.forwards {
		ok := x.host.IsValid() && x.to.IsValid() && x.host.Is4() == f.is4 && x.to.Is4() == f.is4 && (x.Proto == "tcp" || x.Proto == "udp")
		if ok && (!x.host.IsLoopback() || f.is4 && f.local) {
			out = append(out, x)
		}
	}
	return out
}

func (f pfFamily) rdr() {
	f.each(func(b ofBridge) {
		if b.names && !f.shared { // a published port 53 is not for those who ask for names
			f.line(`no rdr on "%s" %s proto { tcp, udp } from any to %s port 53`, b.group, f.af, b.gw)
		}
	})
	if coversMetadata(f.led()) { // the URL that a container asks there is a secret of its own
		f.each(func(b ofBridge) {
			f.line(`no rdr on "%s" %s proto tcp from any to %s port %d`, b.group, f.af, b.gw, metadataPort)
		})
	}
	for _, x := range f.led() {
		on := `on ! "lo0" `
		switch {
		case f.shared: // the group of all loopback interfaces
			on = `on ! "lo" `
		case x.host.IsLoopback():
			on = `on "lo0" `
		case f.is4 && f.local:
			on = ""
		}
		at := "(self)"
		if !x.host.IsUnspecified() {
			at = x.host.WithZone("").String()
		}
		f.line("rdr %s%s proto %s from any to %s port %d tag %s -> %s port %d", on, f.af, x.Proto, at, x.HostPort, f.in(), x.to.WithZone(""), x.Number)
	}
}

func (f pfFamily) block() {
	f.each(func(b ofBridge) {
		if f.shared {
			f.line(`block drop out quick on "%s" %s from ! %s to %s`, b.group, f.af, b.net, b.nets)
			f.line(`block drop out quick on ! "%s" %s from any to %s`, b.group, f.af, b.nets) // an address of nobody's must not leave
			if b.internal {
				f.line(`block drop out quick on ! "%s" %s from %s to any`, b.group, f.af, b.nets)
			}
		}
		if b.internal {
			f.line(`block drop in quick on ! "%s" %s from any to %s`, b.group, f.af, b.nets)
			if !f.shared {
				f.line(`block drop in quick on "%s" %s from any to ! %s`, b.group, f.af, b.near)
			}
			return
		}
		f.line(`block drop in quick on ! "%s" %s from any to %s ! tagged %s`, b.group, f.af, b.nets, f.in())
	})
}

func (f pfFamily) pass() {
	if len(f.led()) > 0 {
		f.line("pass in %s from any to any tagged %s", f.af, f.in())
	}
	if f.masked() != "" {
		f.line("pass out %s from any to any tagged %s", f.af, f.out())
	}
	f.each(func(b ofBridge) {
		if f.shared {
			f.line(`pass on "%s" %s from any to %s no state`, b.group, f.af, b.net)
			if !b.internal { // its state lets answers of the host's own addresses back, which leave by the network's interface
				f.line(`pass in on "lo0" %s from %s to any`, f.af, b.net)
			}
			if !b.internal && !b.masquerade {
				f.line(`pass out on ! "%s" %s from %s to any`, b.group, f.af, b.net)
			}
			return
		}
		if !f.is4 {
			f.line(`pass on "%s" inet6 proto ipv6-icmp from any to any no state`, b.group)
		}
		if b.internal {
			f.line(`pass in on "%s" %s from %s to %s`, b.group, f.af, b.net, b.nets)
		} else {
			f.line(`pass in on "%s" %s from %s to ! (self)`, b.group, f.af, b.net)
		}
		if b.names {
			f.line(`pass in on "%s" %s proto { tcp, udp } from %s to %s port 53`, b.group, f.af, b.net, b.gw)
		}
		f.line(`pass in on "%s" %s proto tcp from %s to %s port %d`, b.group, f.af, b.net, b.gw, metadataPort)
		f.line(`pass out on "%s" %s from any to %s`, b.group, f.af, b.net)
		if !b.internal && !b.masquerade {
			f.line(`pass out on ! "%s" %s from %s to any`, b.group, f.af, b.net)
		}
	})
}

// of is the bridge's subnet of a family; invalid without one.
func (b *bridge) of(is4 bool) netip.Prefix {
	for _, p := range b.nets {
		if p.Addr().Is4() == is4 {
			return p
		}
	}
	return netip.Prefix{}
}
