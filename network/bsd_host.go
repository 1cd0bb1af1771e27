package network

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
	"github.com/brigd/brig/internal/kmod"
)

// Modules are the kernel modules of FreeBSD that bridge networks need.
var Modules = []string{"pf", "if_bridge", "if_epair"}

// commandWait is for one command of bsd_plan.go.
const commandWait = time.Minute

// bsdHost is the FreeBSD side but for what needs its system calls: epair(4) into jails with network stacks of their own, if_bridge(4), and
// pf(4). It runs programs alone, so that its tests run anywhere. Networks.mu guards it.
type bsdHost struct {
	commands
	log    *slog.Logger
	shared bool                                                                    // networks are addresses of the host's own stack: see bsd_shared.go
	run    func(ctx context.Context, stdin string, argv ...string) (string, error) // host.Command, or a test's
	routes func(skip string) ([]netip.Prefix, error)                               // that the host has, but for those by one interface
	kernel kmod.Kernel

	text   string // the rules as they were given to pf last; "": none are known to be there
	shown  string // how pf shows them
	plan   pfPlan // what they were made from
	jails  map[string]int
	looked bool // jails is what the host had when members looked
}

func (h *bsdHost) do(argv ...string) (string, error) { return h.feed("", argv) }

func (h *bsdHost) feed(stdin string, argv []string) (string, error) {
	ctx, stop := context.WithTimeout(context.Background(), commandWait)
	defer stop()
	return h.run(ctx, stdin, argv...)
}

// all runs commands until one fails.
func (h *bsdHost) all(list ...[]string) error {
	for _, argv := range list {
		if _, err := h.do(argv...); err != nil {
			return err
		}
	}
	return nil
}

// says reports whether a command failed with such words of its own.
func says(err error, words string) bool {
	return err != nil && strings.Contains(err.Error(), words) && !strings.Contains(err.Error(), "executable file not found")
}

func (h *bsdHost) sysctl(name string) string {
	out, _ := h.do(getSysctl(name)...) // one that isn't there is not set
	return strings.TrimSpace(out)
}

func (h *bsdHost) netnsPath(id brig.ID) string { return h.jail(id) }

// netnsOf is the jail whose network stack a process has, as its parent jail's child: ps(1)'s keyword jail.
func (h *bsdHost) netnsOf(pid int) brig.Netns {
	out, err := h.do("ps", "-ww", "-o", "jail=", "-p", strconv.Itoa(pid))
	name := strings.TrimSpace(out)
	if i := strings.LastIndexByte(name, '.'); err == nil && i > 0 {
		return brig.Netns{Kind: brig.NetnsPath, Path: name[:i]}
	}
	return brig.Netns{Kind: brig.NetnsHost}
}

// relaysLocal reports whether relays take the host's own connections to published IPv4 ports, as the rules were made last.
func (h *bsdHost) relaysLocal() bool { return h.shared || !h.plan.local }

// leadsLocal reports whether pf can lead them: it must see what is delivered to the host itself, and look at lo0.
func (h *bsdHost) leadsLocal() bool {
	if h.sysctl("net.pf.filter_local") != "1" {
		return false
	}
	out, err := h.do(showLoopback()...)
	return err == nil && !strings.Contains(out, "(skip)")
}

func (h *bsdHost) hasIPv6() bool { return h.sysctl("kern.features.inet6") == "1" }

// resolverOf is the gateway's address: containers have no way to an address of their own that brig could listen at.
func (h *bsdHost) resolverOf(w *brig.Network) (out netip.Addr) {
	for _, s := range w.Subnets {
		if !out.IsValid() || s.Gateway.Is4() {
			out = s.Gateway
		}
	}
	return out
}

func (h *bsdHost) knowsSCTP() error { return errors.New("pf leads TCP and UDP alone") }

func (h *bsdHost) taken(own string) ([]netip.Prefix, error) { return h.routes(own) }

func (h *bsdHost) nics() ([]nic, error) {
	out, err := h.do(listNICs()...)
	if err != nil {
		return nil, errs.Wrap(err, "list interfaces")
	}
	return parseNICs(out)
}

func find(list []nic, name string) *nic {
	for i := range list {
		if list[i].name == name {
			return &list[i]
		}
	}
	return nil
}

// ensure makes the network's bridge with its addresses and lets the host forward packets. It refuses where the firewall wouldn't do what
// keeps networks apart.
func (h *bsdHost) ensure(w *brig.Network, o bridgeOptions) error {
	if !plainName.MatchString(w.Bridge) {
		return errs.New(errs.Invalid, "%q is no name for an interface on this system", w.Bridge)
	}
	ctx, stop := context.WithTimeout(context.Background(), commandWait)
	defer stop()
	need := Modules
	if h.shared {
		need = Modules[:1] // pf alone
	}
	if err := h.kernel.Need(ctx, need...); err != nil {
		return errs.Wrap(err, "prepare for bridge networks")
	}
	if lacking := h.firewall(); len(lacking) > 0 {
		var all []string
		for _, note := range lacking {
			all = append(all, note.String())
		}
		return errs.New(errs.Unavailable, "the host's firewall is not ready for bridge networks: %s", strings.Join(all, "; "))
	}
	have, err := h.nics()
	if err != nil {
		return err
	}
	b := find(have, w.Bridge)
	kind, maker := "bridge", h.makeBridge(w.Bridge, macFor(w.Subnets[0].Gateway))
	if h.shared {
		kind, maker = "lo", h.makeLoopback(w.Bridge, o.mtu)
	}
	switch {
	case b == nil:
		_, err = h.do(maker...)
		b = &nic{name: w.Bridge, descr: h.mark()}
	case !slices.Contains(b.groups, kind):
		return errs.New(errs.Forbidden, "the interface %s exists and is not in the group %s", w.Bridge, kind)
	default:
		_, err = h.do(takeBridge(w.Bridge)...)
	}
	if err != nil {
		return errs.Wrap(err, "make bridge %s", w.Bridge)
	}
	if err := h.address(b, w); err != nil {
		return err
	}
	if h.shared { // nothing is forwarded
		return nil
	}
	if w.IPv6 && !w.Internal {
		if err := h.forwarding("net.inet6.ip6.forwarding"); err != nil {
			return err
		}
	}
	return h.forwarding("net.inet.ip.forwarding")
}

// address gives a bridge its network's gateway addresses, and takes others from it that an earlier network of the name had.
func (h *bsdHost) address(b *nic, w *brig.Network) error {
	var want []netip.Prefix
	for _, s := range w.Subnets {
		want = append(want, netip.PrefixFrom(s.Gateway, s.Prefix.Bits()))
	}
	if w.IPv6 {
		if _, err := h.do(useIPv6(b.name)...); err != nil {
			return errs.Wrap(err, "let bridge %s have IPv6", b.name)
		}
	}
	for _, p := range want {
		if slices.Contains(b.addrs, p) {
			continue
		}
		if _, err := h.do(addAddr(b.name, p)...); err != nil {
			return errs.Wrap(err, "give %s to bridge %s", p, b.name)
		}
	}
	if b.descr != h.mark() {
		return nil
	}
	for _, p := range b.addrs {
		if slices.Contains(want, p) || p.Addr().IsLinkLocalUnicast() || h.shared && p.IsSingleIP() {
			continue
		}
		if _, err := h.do(dropAddr(b.name, p)...); err != nil {
			return errs.Wrap(err, "take %s from bridge %s", p, b.name)
		}
	}
	return nil
}

// forwarding turns on a setting of the host that carries no instance's name.
func (h *bsdHost) forwarding(name string) error {
	if h.sysctl(name) == "1" {
		return nil
	}
	h.log.Info("turning on a setting of this host, which containers need to reach other hosts", "sysctl", name)
	_, err := h.do(setSysctl(name, "1")...)
	return errs.Wrap(err, "turn on %s", name)
}

// bridged reports whether the bridge is there, up, and known to the firewall.
func (h *bsdHost) bridged(name string) bool {
	have, err := h.nics()
	b := find(have, name)
	return err != nil || b != nil && b.up && slices.Contains(b.groups, groupOf(name))
}

// removeBridge deletes the network's bridge if it is one that we made.
func (h *bsdHost) removeBridge(w *brig.Network) error {
	have, err := h.nics()
	if err != nil {
		return err
	}
	if b := find(have, w.Bridge); b == nil || b.descr != h.mark() {
		return nil
	}
	return h.destroy(w.Bridge)
}

// destroy removes an interface. One that is not there is removed already.
func (h *bsdHost) destroy(name string) error {
	_, err := h.do(destroy(name)...)
	if says(err, "does not exist") {
		return nil
	}
	return errs.Wrap(err, "delete interface %s", name)
}

// unplug removes an endpoint's link.
func (h *bsdHost) unplug(ep brig.Endpoint) error {
	if h.shared {
		return h.leave(ep)
	}
	return h.destroy(h.vethName(ep.EndpointID))
}

// linkNames are what members knows of an endpoint.
func (h *bsdHost) linkNames(ep brig.Endpoint) []string {
	if h.shared {
		return aliasNames(ep)
	}
	return []string{h.vethName(ep.EndpointID)}
}

func (h *bsdHost) sharesStack() bool { return h.shared }

// holdsStacks is true: the jail that holds a stack stays as long as somebody's jail is in it.
func (h *bsdHost) holdsStacks() bool { return true }

// numbersIfaces tells whether programs for Linux see names of the Linux ABI's own (sys/compat/linux/linux.c, linux_use_real_ifname).
func (h *bsdHost) numbersIfaces() bool { return h.sysctl("compat.linux.use_real_ifnames") != "1" }

// strays lists interfaces and jails by name that belong to nobody. keep gives each container its links, bridges are those of all networks.
// A jail in which others are is somebody's.
func (h *bsdHost) strays(keep map[brig.ID][]string, bridges map[string]bool) (out []string, err error) {
	names := map[string]bool{}
	for id, links := range keep {
		names[h.jail(id)] = true
		for _, name := range links {
			names[name] = true
		}
	}
	have, err := h.nics()
	if err != nil {
		return nil, err
	}
	for _, n := range have {
		link := strings.HasPrefix(n.name, h.linkPrefix()) || strings.HasPrefix(n.descr, h.mark()+":")
		bridge := !link && (n.descr == h.mark() || n.name == h.bridgeName() || strings.HasPrefix(n.name, h.bridgePrefix()))
		if link && !names[n.name] || bridge && !bridges[n.name] {
			out = append(out, n.name)
		}
	}
	if h.shared {
		for _, alias := range slices.Sorted(maps.Keys(h.aliases(have))) {
			if !names[alias] {
				out = append(out, alias)
			}
		}
	}
	jails, err := h.netJails()
	if err != nil {
		return nil, err
	}
	for name, children := range jails {
		if !names[name] && children == 0 {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return out, nil
}

// netJails lists the instance's jails that hold network stacks, with the number of those in them.
func (h *bsdHost) netJails() (map[string]int, error) {
	text, err := h.do(listJails()...)
	if err != nil {
		return nil, errs.Wrap(err, "list jails")
	}
	all, err := parseJails(text)
	out := map[string]int{}
	for name, n := range all {
		if strings.HasPrefix(name, h.jailPrefix()) && !strings.Contains(name, ".") {
			out[name] = n
		}
	}
	return out, err
}

// scrap deletes what strays has listed.
func (h *bsdHost) scrap(name string) error {
	if strings.HasPrefix(name, h.jailPrefix()) {
		return h.removeJail(name)
	}
	if a, err := netip.ParseAddr(name); err == nil {
		return h.dropAlias(a)
	}
	return h.destroy(name)
}

func (h *bsdHost) removeJail(name string) error {
	_, err := h.do(removeJail(name)...)
	if says(err, "not found") {
		return nil
	}
	return errs.Wrap(err, "remove jail %s", name)
}

// sweep removes what strays lists: links before the jails that they lead into, since an interface whose jail ends comes back to the host.
func (h *bsdHost) sweep(keep map[brig.ID][]string, bridges map[string]bool) (removed bool, err error) {
	strays, err := h.strays(keep, bridges)
	for _, jails := range []bool{false, true} {
		for _, s := range strays {
			if strings.HasPrefix(s, h.jailPrefix()) == jails {
				err = errors.Join(err, h.scrap(s))
			}
		}
	}
	return len(strays) > 0, err
}

// remove takes away all that this instance has on the host.
func (h *bsdHost) remove() error {
	_, err := h.sweep(nil, nil)
	return errors.Join(err, h.clearRules())
}
