package network

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"github.com/google/nftables"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
	"github.com/brigd/brig/internal/nsfile"
)

// host is the Linux side: netlink(7) for links and addresses, nftables for rules. Networks.mu guards it.
type host struct {
	instance, dir string
	log           *slog.Logger
	shared        bool                                    // dir has been made a mount of its own
	rules         map[nftables.TableFamily]map[string]int // the number of rules in each chain of our tables; none: the table is not known to be there
	accepted      map[nftables.TableFamily][]string       // bridges that the host's FORWARD chain lets pass by rules of ours
}

func newHost(cfg Config) *host {
	return &host{instance: cfg.Instance, dir: cfg.Dir, log: cfg.Log, rules: map[nftables.TableFamily]map[string]int{}, accepted: map[nftables.TableFamily][]string{}}
}

// bridgeName is the default network's: at most 15 bytes (IFNAMSIZ), "brig-" and 8 digits.
func (h *host) bridgeName() string { return "brig-" + h.instance }

// userBridge names the bridge of a user's network: a sweep knows its own by the beginning, or by the alias, if the user has named it.
func (h *host) userBridge(id brig.ID) string { return h.bridgePrefix() + string(id[:8]) }
func (h *host) bridgePrefix() string         { return "br" + h.instance[:4] + "-" }
func (h *host) alias() string                { return "brig_" + h.instance }

// vethName names the host's end by instance and endpoint: a sweep knows its own, and a container that is attached again gets another.
func (h *host) vethName(endpoint brig.ID) string { return h.vethPrefix() + string(endpoint[:8]) }
func (h *host) vethPrefix() string               { return "v" + h.instance[:4] + "-" }

func (h *host) netnsPath(id brig.ID) string { return filepath.Join(h.dir, string(id[:16])) }

func (h *host) netnsOf(pid int) brig.Netns {
	return brig.Netns{Kind: brig.NetnsPath, Path: fmt.Sprintf("/proc/%d/ns/net", pid)}
}

// hasIPv6 reports whether the kernel has IPv6.
func (h *host) hasIPv6() bool {
	_, err := os.Stat("/proc/net/if_inet6")
	return err == nil
}

// relaysLocal reports whether relays take the host's own connections to published IPv4 ports: here the kernel leads these as well.
func (h *host) relaysLocal() bool { return false }

// resolverOf is the host's address where a network's containers ask for names: here they have servers of their own.
func (h *host) resolverOf(*brig.Network) netip.Addr { return netip.Addr{} }

// knowsSCTP says why the kernel can't do SCTP.
func (h *host) knowsSCTP() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, unix.IPPROTO_SCTP)
	if err != nil {
		return err
	}
	return unix.Close(fd)
}

// dumps is how often a list is asked for that others change while it is read.
const dumps = 20

// whole asks for a list until nobody has changed it meanwhile; where that doesn't come about, what was seen last must do.
func whole[T any](list func() ([]T, error)) (out []T, err error) {
	for range dumps {
		if out, err = list(); !errors.Is(err, netlink.ErrDumpInterrupted) {
			return out, err
		}
	}
	return out, nil
}

// taken lists the prefixes that the host has addresses in or routes to, but for those on the bridge own.
func (h *host) taken(own string) ([]netip.Prefix, error) {
	routes, err := whole(func() ([]netlink.Route, error) {
		return netlink.RouteListFiltered(netlink.FAMILY_ALL, &netlink.Route{Table: unix.RT_TABLE_UNSPEC}, netlink.RT_FILTER_TABLE)
	})
	if err != nil {
		return nil, errs.Wrap(err, "list routes")
	}
	skip := -1
	if l, err := netlink.LinkByName(own); own != "" && err == nil {
		skip = l.Attrs().Index
	}
	var out []netip.Prefix
	for _, r := range routes {
		if r.Dst == nil || r.LinkIndex == skip {
			continue
		}
		a, ok := netip.AddrFromSlice(r.Dst.IP)
		if bits, _ := r.Dst.Mask.Size(); bits > 0 && ok {
			out = append(out, netip.PrefixFrom(a.Unmap(), bits))
		}
	}
	return out, nil
}

// ensure makes the network's bridge with its addresses and lets the host forward packets.
func (h *host) ensure(w *brig.Network, o bridgeOptions) error {
	l, err := h.bridge(w, o)
	if err != nil {
		return err
	}
	if err := h.address(l, w); err != nil {
		return err
	}
	if err := netlink.LinkSetUp(l); err != nil {
		return errs.Wrap(err, "bring up bridge %s", w.Bridge)
	}
	// Published ports on 127.0.0.1 reach the bridge with a loopback address; nft_linux.go keeps other such packets out.
	if err := sysctl("net/ipv4/conf/"+w.Bridge+"/route_localnet", "1"); err != nil {
		return err
	}
	if w.IPv6 && !w.Internal {
		if err := h.forwarding("net/ipv6/conf/all/forwarding"); err != nil {
			return err
		}
	}
	return h.forwarding("net/ipv4/ip_forward")
}

// forwarding turns on a setting of the host that carries no instance's name.
func (h *host) forwarding(path string) error {
	if was, _ := os.ReadFile("/proc/sys/" + path); strings.TrimSpace(string(was)) == "1" {
		return nil
	}
	h.log.Info("turning on a setting of this host, which containers need to reach other hosts", "sysctl", strings.ReplaceAll(path, "/", "."))
	return sysctl(path, "1")
}

// bridge finds or makes the network's bridge. One that is made carries our alias.
func (h *host) bridge(w *brig.Network, o bridgeOptions) (netlink.Link, error) {
	l, err := netlink.LinkByName(w.Bridge)
	if err == nil {
		if l.Type() != "bridge" {
			return nil, errs.New(errs.Forbidden, "the interface %s exists and is not a bridge", w.Bridge)
		}
		return l, nil
	}
	// An address of its own: the kernel's would change with each member, and neighbours' entries with it.
	mac, err := net.ParseMAC(macFor(w.Subnets[0].Gateway))
	if err != nil {
		return nil, errs.Wrap(err, "make an address for bridge %s", w.Bridge)
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.HardwareAddr, attrs.MTU, attrs.Alias = w.Bridge, mac, o.mtu, h.alias()
	if err := netlink.LinkAdd(&netlink.Bridge{LinkAttrs: attrs}); err != nil && !errors.Is(err, unix.EEXIST) {
		return nil, errs.Wrap(err, "add bridge %s", w.Bridge)
	}
	if l, err = netlink.LinkByName(w.Bridge); err != nil {
		return nil, errs.Wrap(err, "find bridge %s", w.Bridge)
	}
	return l, errs.Wrap(netlink.LinkSetAlias(l, h.alias()), "mark bridge %s", w.Bridge)
}

// address gives a bridge its network's gateway addresses, and takes others from it that an earlier network of the name had.
func (h *host) address(l netlink.Link, w *brig.Network) error {
	if w.IPv6 {
		for name, v := range map[string]string{"disable_ipv6": "0", "accept_ra": "0"} {
			if err := sysctl("net/ipv6/conf/"+w.Bridge+"/"+name, v); err != nil {
				return err
			}
		}
	}
	want := map[netip.Prefix]bool{}
	for _, s := range w.Subnets {
		p := netip.PrefixFrom(s.Gateway, s.Prefix.Bits())
		want[p] = true
		a := &netlink.Addr{IPNet: ipNet(p)}
		if !p.Addr().Is4() {
			a.Flags = unix.IFA_F_NODAD // nobody else has it, and an address that is being looked for can't be bound
		}
		if err := netlink.AddrReplace(l, a); err != nil {
			return errs.Wrap(err, "give %s to bridge %s", s.Gateway, w.Bridge)
		}
	}
	if l.Attrs().Alias != h.alias() {
		return nil
	}
	have, err := whole(func() ([]netlink.Addr, error) { return netlink.AddrList(l, netlink.FAMILY_ALL) })
	if err != nil {
		return errs.Wrap(err, "list the addresses of bridge %s", w.Bridge)
	}
	for _, a := range have {
		ip, _ := netip.AddrFromSlice(a.IP)
		bits, _ := a.Mask.Size()
		if p := netip.PrefixFrom(ip.Unmap(), bits); !want[p] && !ip.IsLinkLocalUnicast() {
			if err := netlink.AddrDel(l, &a); err != nil {
				return errs.Wrap(err, "take %s from bridge %s", p, w.Bridge)
			}
		}
	}
	return nil
}

// removeBridge deletes the network's bridge if it is one that we made.
func (h *host) removeBridge(w *brig.Network) error {
	l, err := netlink.LinkByName(w.Bridge)
	if err != nil || l.Attrs().Alias != h.alias() {
		return nil
	}
	return h.removeLink(w.Bridge)
}

// bridged reports whether the bridge is there and up.
func (h *host) bridged(name string) bool {
	l, err := netlink.LinkByName(name)
	if missing := new(netlink.LinkNotFoundError); err != nil {
		return !errors.As(err, missing)
	}
	return l.Attrs().Flags&net.FlagUp != 0
}

func sysctl(path, value string) error {
	return errs.Wrap(os.WriteFile("/proc/sys/"+path, []byte(value), 0o644), "set sysctl %s to %s", path, value)
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

// unplug removes an endpoint's link. One that is not there is removed already.
func (h *host) unplug(ep brig.Endpoint) error { return h.removeLink(h.vethName(ep.EndpointID)) }

func (h *host) linkNames(ep brig.Endpoint) []string { return []string{h.vethName(ep.EndpointID)} }

// numbersIfaces is false: programs see the names that interfaces have.
func (h *host) numbersIfaces() bool { return false }

// sharesStack is false: each container has a network namespace.
func (h *host) sharesStack() bool { return false }

// holdsStacks is false: a namespace's name goes whoever runs in it.
func (h *host) holdsStacks() bool { return false }

func (h *host) removeLink(name string) error {
	l, err := netlink.LinkByName(name)
	if err != nil {
		if errors.As(err, &netlink.LinkNotFoundError{}) {
			return nil
		}
		return errs.Wrap(err, "find link %s", name)
	}
	if err := netlink.LinkDel(l); err != nil && !errors.Is(err, unix.ENODEV) {
		return errs.Wrap(err, "delete link %s", name)
	}
	return nil
}

// sweep removes links, bridges and namespaces of this instance that belong to nobody. keep gives each container its links, bridges
// are those of all networks.
func (h *host) sweep(keep map[brig.ID][]string, bridges map[string]bool) (removed bool, err error) {
	strays, err := h.strays(keep, bridges)
	for _, s := range strays {
		err = errors.Join(err, h.scrap(s))
	}
	return len(strays) > 0, err
}

// remove takes away all that this instance has on the host.
func (h *host) remove() error {
	_, err := h.sweep(nil, nil)
	err = errors.Join(err, h.clearRules())
	if nsfile.IsMountPoint(h.dir) {
		err = errors.Join(err, errs.Wrap(unix.Unmount(h.dir, unix.MNT_DETACH), "unmount %s", h.dir))
	}
	h.shared = false
	return err
}
