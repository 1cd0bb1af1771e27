package network

import (
	"errors"
	"maps"
	"net/netip"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"github.com/brigd/brig/internal/errs"
)

// One table of each family, ip and ip6, holds all rules of an instance:
//
//	guard (raw prerouting):    nothing from a bridge may claim a loopback destination (route_localnet is on), and nothing from
//	                           elsewhere one that a port is published at
//	prerouting (nat):          what a container sends to its metadata service stays with that
//	prerouting, output (nat):  fib daddr type local, protocol, [host address], port → dnat to the container
//	forward (filter):          an internal network's packets stay inside; into a bridge come replies and what we have led there
//	postrouting (nat):         masquerade what leaves a subnet, what came from loopback, and what comes back to its own bridge
//
// program replaces the rules in one transaction, so there is no moment with half of them.
func (h *host) tableName() string { return "brig_" + h.instance }

var families = []nftables.TableFamily{nftables.TableFamilyIPv4, nftables.TableFamilyIPv6}

// is tells whether an address is of the family.
func is(f nftables.TableFamily, a netip.Addr) bool {
	return a.IsValid() && a.Is4() == (f == nftables.TableFamilyIPv4)
}

// program makes the instance's tables say exactly these bridges and forwards.
func (h *host) program(bs []bridge, fs []forward) error {
	c, err := nftables.New()
	if err != nil {
		return errs.Wrap(err, "open nftables")
	}
	counts := map[nftables.TableFamily]map[string]int{}
	for _, f := range families {
		var own []bridge
		for _, b := range bs {
			if b.net(f).IsValid() {
				own = append(own, b)
			}
		}
		if f == nftables.TableFamilyIPv6 && len(own) == 0 {
			if h.rules[f] != nil {
				c.DelTable(&nftables.Table{Family: f, Name: h.tableName()})
			}
			continue
		}
		t := &tableBuilder{conn: c, family: f, count: map[string]int{}, table: &nftables.Table{Family: f, Name: h.tableName()}, there: h.rules[f] != nil}
		t.build(own, fs)
		counts[f] = t.count
	}
	if err := c.Flush(); err != nil {
		h.rules = map[nftables.TableFamily]map[string]int{} // look again, and begin with an empty table
		return errs.Wrap(err, "replace nftables tables %s", h.tableName())
	}
	h.rules = counts
	return h.pass(bs)
}

// forget has program make tables from nothing next time.
func (h *host) forget() { clear(h.rules) }

// net is the bridge's subnet of a family.
func (b *bridge) net(f nftables.TableFamily) netip.Prefix { return b.of(f == nftables.TableFamilyIPv4) }

// tableBuilder adds one table's chains and rules to a transaction.
type tableBuilder struct {
	conn   *nftables.Conn
	family nftables.TableFamily
	table  *nftables.Table
	there  bool // the table and its chains are: their rules are replaced, the hooks stay
	count  map[string]int
}

func (t *tableBuilder) chain(name string, typ nftables.ChainType, hook *nftables.ChainHook, prio nftables.ChainPriority) *nftables.Chain {
	ch := t.conn.AddChain(&nftables.Chain{Name: name, Table: t.table, Type: typ, Hooknum: hook, Priority: &prio})
	if t.there {
		t.conn.FlushChain(ch)
	}
	t.count[name] = 0
	return ch
}

func (t *tableBuilder) rule(ch *nftables.Chain, parts ...[]expr.Any) {
	t.conn.AddRule(&nftables.Rule{Table: t.table, Chain: ch, Exprs: concat(parts...)})
	t.count[ch.Name]++
}

var loopback4 = netip.MustParsePrefix("127.0.0.0/8")

func (t *tableBuilder) build(bs []bridge, fs []forward) {
	t.conn.AddTable(t.table) // also so that the deletion finds one
	if !t.there {
		t.conn.DelTable(t.table)
		t.conn.AddTable(t.table)
	}
	if t.family == nftables.TableFamilyIPv4 {
		guard := t.chain("guard", nftables.ChainTypeFilter, nftables.ChainHookPrerouting, *nftables.ChainPriorityRaw)
		for _, b := range bs {
			t.rule(guard, iif(b.name, expr.CmpOpEq), dst(loopback4, expr.CmpOpEq), verdict(expr.VerdictDrop))
		}
		for _, f := range fs {
			if f.host.Is4() && f.host.IsLoopback() {
				t.rule(guard, iif("lo", expr.CmpOpNeq), dst(netip.PrefixFrom(f.host, 32), expr.CmpOpEq), dport(f.Proto, f.HostPort), verdict(expr.VerdictDrop))
			}
		}
	}
	pre := t.chain("prerouting", nftables.ChainTypeNAT, nftables.ChainHookPrerouting, *nftables.ChainPriorityNATDest)
	if coversMetadata(fs) { // the URL that a container asks there is a secret of its own
		for _, b := range bs {
			for _, gw := range b.gateways {
				if is(t.family, gw) {
					t.rule(pre, iif(b.name, expr.CmpOpEq), dst(netip.PrefixFrom(gw, gw.BitLen()), expr.CmpOpEq), dport("tcp", metadataPort), verdict(expr.VerdictAccept))
				}
			}
		}
	}
	out := t.chain("output", nftables.ChainTypeNAT, nftables.ChainHookOutput, -100)
	for _, f := range fs {
		if !is(t.family, f.host) || !is(t.family, f.to) || (f.host.Is6() && f.host.IsLoopback()) {
			continue
		}
		t.rule(pre, toLocal(), hostAddr(f.host), dport(f.Proto, f.HostPort), dnat(f.to, f.Number))
		t.rule(out, notLoopback6(f.host), toLocal(), hostAddr(f.host), dport(f.Proto, f.HostPort), dnat(f.to, f.Number))
	}
	t.forward(bs)
	post := t.chain("postrouting", nftables.ChainTypeNAT, nftables.ChainHookPostrouting, *nftables.ChainPriorityNATSource)
	for _, b := range bs {
		sub := b.net(t.family)
		if b.masquerade && !b.internal {
			t.rule(post, src(sub, expr.CmpOpEq), oif(b.name, expr.CmpOpNeq), masquerade())
		}
		if sub.Addr().Is4() {
			t.rule(post, oif(b.name, expr.CmpOpEq), src(loopback4, expr.CmpOpEq), masquerade())
		}
		t.rule(post, oif(b.name, expr.CmpOpEq), src(sub, expr.CmpOpEq), wasDNATed(), masquerade())
	}
}

// forward keeps networks apart. What it accepts, other tables may still drop; accept_linux.go has more of that.
func (t *tableBuilder) forward(bs []bridge) {
	fwd := t.chain("forward", nftables.ChainTypeFilter, nftables.ChainHookForward, *nftables.ChainPriorityFilter)
	t.rule(fwd, established(), verdict(expr.VerdictAccept))
	for _, b := range bs {
		if b.internal {
			t.rule(fwd, iif(b.name, expr.CmpOpEq), oif(b.name, expr.CmpOpNeq), verdict(expr.VerdictDrop))
			t.rule(fwd, iif(b.name, expr.CmpOpNeq), oif(b.name, expr.CmpOpEq), verdict(expr.VerdictDrop))
		}
	}
	t.rule(fwd, wasDNATed(), verdict(expr.VerdictAccept))
	for _, b := range bs {
		if !b.internal {
			t.rule(fwd, iif(b.name, expr.CmpOpNeq), oif(b.name, expr.CmpOpEq), verdict(expr.VerdictDrop))
		}
	}
}

// clearRules deletes the instance's tables, and its rules in others', if they are there.
func (h *host) clearRules() error {
	clear(h.rules)
	err := h.pass(nil)
	for _, f := range families {
		c, e := nftables.New()
		if e != nil {
			return errors.Join(err, errs.Wrap(e, "open nftables"))
		}
		c.DelTable(&nftables.Table{Family: f, Name: h.tableName()})
		if e := c.Flush(); e != nil && !errors.Is(e, unix.ENOENT) {
			err = errors.Join(err, errs.Wrap(e, "delete nftables table %s", h.tableName()))
		}
	}
	return err
}

// missing says what of the rules is not there.
func (h *host) missing() (out []string) {
	c, err := nftables.New()
	if err != nil {
		return []string{"nftables can't be asked: " + err.Error()}
	}
	if len(h.rules) == 0 {
		out = append(out, "the rules have never been written")
	}
	for f, want := range h.rules {
		have, err := countRules(c, f, h.tableName())
		switch {
		case err != nil:
			out = append(out, "nftables can't be asked: "+err.Error())
		case have == nil:
			out = append(out, "the nftables table "+h.tableName()+" is gone")
		case !maps.Equal(have, want):
			out = append(out, "rules of the nftables table "+h.tableName()+" are gone, or others have been added")
		}
	}
	return append(out, h.blocked()...)
}

// countRules gives the number of rules in each chain of a table; nil if there is no such table.
func countRules(c *nftables.Conn, f nftables.TableFamily, table string) (map[string]int, error) {
	chains, err := c.ListChainsOfTableFamily(f)
	if err != nil {
		return nil, err
	}
	var out map[string]int
	for _, ch := range chains {
		if ch.Table.Name != table {
			continue
		}
		if out == nil {
			out = map[string]int{}
		}
		rules, err := c.GetRules(ch.Table, ch)
		if err != nil {
			return nil, err
		}
		out[ch.Name] = len(rules)
	}
	return out, nil
}
