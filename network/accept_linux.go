package network

import (
	"bytes"
	"os"
	"slices"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/google/nftables/userdata"

	"github.com/brigd/brig/internal/errs"
)

// Docker sets the policy of iptables' FORWARD chain to DROP, and then what our tables accept is dropped all the same. So that chain gets,
// at its head, two accept rules for each bridge, in the form that iptables(8) lists: what comes into a bridge has passed our forward chain.
// They are there only while the policy drops.

// mark is the comment that our rules in a chain of others carry.
func (h *host) mark() []byte { return userdata.AppendString(nil, userdata.TypeComment, h.tableName()) }

// dropping finds iptables' FORWARD chain of a family if its policy is to drop; else nil.
func dropping(c *nftables.Conn, f nftables.TableFamily) (*nftables.Chain, error) {
	chains, err := c.ListChainsOfTableFamily(f)
	if err != nil {
		return nil, errs.Wrap(err, "list nftables chains")
	}
	for _, ch := range chains {
		if ch.Table.Name == "filter" && ch.Name == "FORWARD" {
			if ch.Policy != nil && *ch.Policy == nftables.ChainPolicyDrop {
				return ch, nil
			}
			return nil, nil
		}
	}
	return nil, nil
}

// passing finds our rules in a chain, and the bridges that they name, in order.
func (h *host) passing(c *nftables.Conn, ch *nftables.Chain) (rules []*nftables.Rule, bridges []string, err error) {
	all, err := c.GetRules(ch.Table, ch)
	if err != nil {
		return nil, nil, errs.Wrap(err, "list the rules of chain %s", ch.Name)
	}
	for _, r := range all {
		if !bytes.Equal(r.UserData, h.mark()) {
			continue
		}
		rules = append(rules, r)
		for _, e := range r.Exprs {
			if cmp, ok := e.(*expr.Cmp); ok {
				bridges = append(bridges, strings.TrimRight(string(cmp.Data), "\x00"))
			}
		}
	}
	slices.Sort(bridges)
	return rules, slices.Compact(bridges), nil
}

// pass makes the host's FORWARD chains let through what goes to and from these bridges.
func (h *host) pass(bs []bridge) error {
	for _, f := range families {
		c, err := nftables.New()
		if err != nil {
			return errs.Wrap(err, "open nftables")
		}
		var want []string
		for _, b := range bs {
			if b.net(f).IsValid() {
				want = append(want, b.name)
			}
		}
		if len(want) == 0 && len(h.accepted[f]) == 0 && bs != nil {
			continue
		}
		delete(h.accepted, f)
		ch, err := dropping(c, f)
		if err != nil {
			return err
		}
		if ch == nil {
			continue
		}
		rules, have, err := h.passing(c, ch)
		if err != nil {
			return err
		}
		h.accepted[f] = want
		if slices.Equal(want, have) && len(rules) == 2*len(want) {
			continue
		}
		for _, r := range rules {
			if err := c.DelRule(r); err != nil {
				return errs.Wrap(err, "delete a rule of chain %s", ch.Name)
			}
		}
		for _, name := range want {
			for _, match := range [][]expr.Any{oif(name, expr.CmpOpEq), iif(name, expr.CmpOpEq)} {
				c.InsertRule(&nftables.Rule{Table: ch.Table, Chain: ch, UserData: h.mark(),
					Exprs: concat(match, []expr.Any{&expr.Counter{}}, verdict(expr.VerdictAccept))})
			}
		}
		if err := c.Flush(); err != nil {
			return errs.Wrap(err, "let packets of containers pass chain %s of the host", ch.Name)
		}
	}
	return nil
}

// blocked says where the host's FORWARD chain drops what it should let pass by rules of ours.
func (h *host) blocked() (out []string) {
	for _, f := range families {
		if h.rules[f] == nil {
			continue
		}
		c, err := nftables.New()
		if err != nil {
			return append(out, "nftables can't be asked: "+err.Error())
		}
		ch, err := dropping(c, f)
		if err != nil {
			return append(out, err.Error())
		}
		if ch == nil {
			continue
		}
		rules, have, err := h.passing(c, ch)
		if err != nil {
			return append(out, err.Error())
		}
		if want, known := h.accepted[f]; !known || !slices.Equal(want, have) || len(rules) != 2*len(want) {
			out = append(out, "chain FORWARD drops what goes to and from containers")
		}
	}
	return out
}

// notes says what others have done to this host that keeps packets from containers, and what is done against it.
func (h *host) notes(up bool) (out []note) {
	say := func(command, problem string) { out = append(out, note{problem, command}) }
	if up && !settingOn("net/ipv4/ip_forward") {
		say("sysctl -w net.ipv4.ip_forward=1", "net.ipv4.ip_forward is off: containers don't reach other hosts")
	}
	if up && len(h.rules[nftables.TableFamilyIPv6]) > 0 && !settingOn("net/ipv6/conf/all/forwarding") {
		say("sysctl -w net.ipv6.conf.all.forwarding=1", "net.ipv6.conf.all.forwarding is off: containers don't reach other hosts by IPv6")
	}
	if len(h.accepted[nftables.TableFamilyIPv4])+len(h.accepted[nftables.TableFamilyIPv6]) > 0 {
		say("", "the FORWARD chain of iptables drops by its policy (another container engine does that): brig has put rules at its head that accept what goes to and from its bridges")
	}
	if b, _ := os.ReadFile("/proc/net/ip_tables_names"); slices.Contains(strings.Fields(string(b)), "filter") {
		say("iptables-legacy -P FORWARD ACCEPT",
			"this host uses iptables-legacy, which brig does not look into: if its FORWARD policy is DROP, containers neither reach other hosts nor are reached from there")
	}
	c, err := nftables.New()
	if err != nil {
		say("modprobe nf_tables", "nftables can't be used: "+err.Error())
		return out
	}
	chains, err := c.ListChains()
	if err != nil {
		say("modprobe nf_tables", "nftables can't be asked: "+err.Error())
		return out
	}
	for _, ch := range chains {
		if ch.Hooknum != nil && *ch.Hooknum == *nftables.ChainHookForward && ch.Policy != nil && *ch.Policy == nftables.ChainPolicyDrop &&
			ch.Table.Family == nftables.TableFamilyINet {
			say("nft add rule inet "+ch.Table.Name+" "+ch.Name+" iifname "+h.bridgeName()+" accept; nft add rule inet "+ch.Table.Name+" "+ch.Name+" oifname "+h.bridgeName()+" accept",
				"chain "+ch.Name+" of table inet "+ch.Table.Name+" drops what it is not told to forward: containers may not reach other hosts, nor be reached from there; bridges of other networks need the same")
		}
	}
	return out
}

// settingOn reports whether a setting beneath /proc/sys is 1.
func settingOn(name string) bool {
	b, err := os.ReadFile("/proc/sys/" + name)
	return err == nil && strings.TrimSpace(string(b)) == "1"
}
