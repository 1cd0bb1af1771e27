package network

import (
	"slices"
	"strings"
	"time"

	"github.com/brigd/brig/internal/errs"
)

// program makes the instance's anchor say exactly these bridges and forwards.
func (h *bsdHost) program(bs []bridge, fs []forward) error {
	plan, err := h.planned(bs, fs)
	if err != nil {
		return err
	}
	text, err := plan.text()
	if err != nil {
		return err
	}
	h.text, h.shown = "", ""
	if err := h.load(text); err != nil {
		return errs.Wrap(err, "load the rules of anchor %s", pfAnchor(h.instance))
	}
	shown, err := h.show()
	if err != nil {
		return err
	}
	h.text, h.shown, h.plan = text, shown, plan
	return nil
}

// load gives pf the rules. pf has one list of addresses under way for all who load rules (pool_ticket, sys/netpfil/pf/pf_ioctl.c): while somebody
// else loads his, into whatever anchor, it says that it is busy, and has changed nothing.
func (h *bsdHost) load(text string) error {
	for pause := 10 * time.Millisecond; ; pause *= 2 {
		_, err := h.feed(text, loadRules(h.instance))
		if !says(err, "Device busy") || pause > 5*time.Second {
			return err
		}
		time.Sleep(pause)
	}
}

// planned is what the rules are to be made from, with the host as it is now.
func (h *bsdHost) planned(bs []bridge, fs []forward) (pfPlan, error) {
	have, err := h.nics()
	return pfPlan{instance: h.instance, bridges: bs, forwards: fs, outward: h.outward(have, bs), local: !h.shared && h.leadsLocal(), shared: h.shared}, err
}

// outward finds the host's own interfaces with addresses. Packets of containers leave by them with these.
func (h *bsdHost) outward(have []nic, bs []bridge) map[bool][]string {
	out := map[bool][]string{}
	for _, n := range have {
		ours := strings.HasPrefix(n.name, h.linkPrefix()) || n.descr == h.mark() || slices.ContainsFunc(bs, func(b bridge) bool { return b.name == n.name })
		if ours || n.loopback || !n.up {
			continue
		}
		for _, is4 := range []bool{true, false} {
			for _, a := range n.addrs {
				if a.Addr().Is4() == is4 && !a.Addr().IsLinkLocalUnicast() {
					out[is4] = append(out[is4], n.name)
					break
				}
			}
		}
	}
	return out
}

// show is the anchor's rules as pf shows them.
func (h *bsdHost) show() (string, error) {
	var all string
	for _, argv := range showRules(h.instance) {
		out, err := h.do(argv...)
		if err != nil {
			return "", errs.Wrap(err, "list the rules of anchor %s", pfAnchor(h.instance))
		}
		all += out
	}
	return all, nil
}

// forget needs nothing: pf replaces an anchor's rules as a whole.
func (h *bsdHost) forget() {}

// clearRules empties the instance's anchor. Without pf there is none.
func (h *bsdHost) clearRules() error {
	h.text, h.shown = "", ""
	_, err := h.do(dropRules(h.instance)...)
	if says(err, "/dev/pf") || says(err, "does not exist") {
		return nil
	}
	return errs.Wrap(err, "empty anchor %s", pfAnchor(h.instance))
}

// missing says what of the rules is not there, or not true any more.
func (h *bsdHost) missing() (out []string) {
	if h.text == "" {
		return []string{"the rules have never been written"}
	}
	shown, err := h.show()
	switch {
	case err != nil:
		return []string{"pf can't be asked: " + err.Error()}
	case shown == "" && h.shown != "":
		return []string{"the rules of pf's anchor " + pfAnchor(h.instance) + " are gone"}
	case shown != h.shown:
		return []string{"rules of pf's anchor " + pfAnchor(h.instance) + " are gone, or others have been added"}
	}
	now, err := h.planned(h.plan.bridges, h.plan.forwards)
	if err != nil {
		return []string{err.Error()}
	}
	if text, err := now.text(); err != nil || text != h.text {
		out = append(out, "the host's interfaces or settings have changed since the rules of pf's anchor "+pfAnchor(h.instance)+" were written")
	}
	return out
}

// firewall says what keeps pf from doing what brig tells it.
func (h *bsdHost) firewall() (out []note) {
	status, err := h.do(showStatus()...)
	switch {
	case says(err, "/dev/pf"):
		return []note{{"pf is not loaded", "kldload pf; service pf enable; service pf start"}}
	case err != nil:
		return []note{{"pf can't be asked: " + err.Error(), ""}}
	case !strings.Contains(status, "Status: Enabled"):
		out = append(out, note{"pf is off", "service pf enable; service pf start"})
	}
	var rules string
	for _, argv := range showMain() {
		text, err := h.do(argv...)
		if err != nil {
			return append(out, note{"pf can't be asked: " + err.Error(), ""})
		}
		rules += text
	}
	if lacking := parseAnchors(rules); len(lacking) > 0 {
		out = append(out, note{"pf.conf lacks " + strings.Join(lacking, " and ") +
			": put it into /etc/pf.conf, the first two with the other translation rules, the last with the filter rules", "pfctl -f /etc/pf.conf"})
	}
	return out
}

// notes says what of this host keeps packets from containers.
func (h *bsdHost) notes(up bool) (out []note) {
	out = h.firewall()
	if h.shared {
		return append(out, note{"containers share the host's network stack (freebsd-network): the host's own connections to published ports, and containers', go through brig-net", ""})
	}
	if up && h.sysctl("net.inet.ip.forwarding") != "1" {
		out = append(out, note{"net.inet.ip.forwarding is off: containers don't reach other hosts", "sysctl net.inet.ip.forwarding=1; sysrc gateway_enable=YES"})
	}
	const relayed = "the host's own connections to published ports go through brig-net, and containers see them come from the gateway"
	switch h.sysctl("net.pf.filter_local") {
	case "1":
		if !h.leadsLocal() {
			out = append(out, note{"pf.conf has pf skip lo0: " + relayed + "; take lo0 out of pf.conf's \"set skip\"", "pfctl -f /etc/pf.conf"})
		}
	case "":
		out = append(out, note{"this kernel has no net.pf.filter_local: " + relayed, ""})
	default:
		out = append(out, note{"net.pf.filter_local is off: " + relayed, "sysctl net.pf.filter_local=1; echo net.pf.filter_local=1 >>/etc/sysctl.conf"})
	}
	return out
}
