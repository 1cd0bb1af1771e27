package network

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
	"github.com/brigd/brig/internal/fault"
)

// host is the Linux side: netlink(7) for links and addresses, nft_linux.go for rules. Networks.mu guards it.
type host struct {
	instance, dir string
	log           *slog.Logger
	up            bool // bridge and rules are known to be there
	shared        bool // dir has been made a mount of its own
}

// forward is one published port and where it leads.
type forward struct {
	brig.PortBinding
	to netip.Addr
}

func newHost(cfg Config) *host {
	return &host{instance: cfg.Instance, dir: cfg.Dir, log: cfg.Log}
}

// bridgeName is at most 15 bytes (IFNAMSIZ): "brig-" and 8 digits.
func (h *host) bridgeName() string { return "brig-" + h.instance }

// vethName names the host's end by instance and endpoint: a sweep knows its own, and a container that is attached again gets another.
func (h *host) vethName(endpoint brig.ID) string { return h.vethPrefix() + string(endpoint[:8]) }
func (h *host) vethPrefix() string               { return "v" + h.instance[:4] + "-" }

func (h *host) netnsPath(id brig.ID) string { return filepath.Join(h.dir, string(id[:16])) }

func (h *host) netnsOf(pid int) brig.Netns {
	return brig.Netns{Kind: brig.NetnsPath, Path: fmt.Sprintf("/proc/%d/ns/net", pid)}
}

// taken lists the prefixes that the host has addresses in or routes to, but for those on the bridge own.
func taken(own string) ([]netip.Prefix, error) {
	routes, err := netlink.RouteListFiltered(netlink.FAMILY_V4, &netlink.Route{Table: unix.RT_TABLE_UNSPEC}, netlink.RT_FILTER_TABLE)
	if err != nil {
		return nil, errs.Wrap(err, "list routes")
	}
	skip := -1
	if l, err := netlink.LinkByName(own); err == nil {
		skip = l.Attrs().Index
	}
	var out []netip.Prefix
	for _, r := range routes {
		if r.Dst == nil || r.LinkIndex == skip {
			continue
		}
		a, _ := netip.AddrFromSlice(r.Dst.IP.To4())
		if bits, _ := r.Dst.Mask.Size(); bits > 0 && a.IsValid() {
			out = append(out, netip.PrefixFrom(a, bits))
		}
	}
	return out, nil
}

// usable reports whether a recorded subnet still collides with nothing on this host.
func (h *host) usable(p netip.Prefix, bridge string) bool {
	ts, err := taken(bridge)
	for _, t := range ts {
		if t.Overlaps(p) {
			return false
		}
	}
	return err == nil
}

func (h *host) chooseSubnet() (brig.Subnet, error) {
	ts, err := taken(h.bridgeName())
	if err != nil {
		return brig.Subnet{}, err
	}
	return choose(ts)
}

// ensure makes the bridge with its address and lets the host forward packets.
func (h *host) ensure(w *brig.Network) error {
	l, err := netlink.LinkByName(w.Bridge)
	if err != nil {
		// An address of its own: the kernel's would change with each member, and neighbours' entries with it.
		mac, err := net.ParseMAC(macFor(w.Subnets[0].Gateway))
		if err != nil {
			return errs.Wrap(err, "make an address for bridge %s", w.Bridge)
		}
		l = &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: w.Bridge, HardwareAddr: mac}}
		if err := netlink.LinkAdd(l); err != nil && !errors.Is(err, unix.EEXIST) {
			return errs.Wrap(err, "add bridge %s", w.Bridge)
		}
		if l, err = netlink.LinkByName(w.Bridge); err != nil {
			return errs.Wrap(err, "find bridge %s", w.Bridge)
		}
	}
	sub := w.Subnets[0]
	addr := &netlink.Addr{IPNet: ipNet(netip.PrefixFrom(sub.Gateway, sub.Prefix.Bits()))}
	if err := netlink.AddrReplace(l, addr); err != nil {
		return errs.Wrap(err, "give %s to bridge %s", sub.Gateway, w.Bridge)
	}
	if err := netlink.LinkSetUp(l); err != nil {
		return errs.Wrap(err, "bring up bridge %s", w.Bridge)
	}
	// Published ports on 127.0.0.1 reach the bridge with a loopback address; nft_linux.go keeps other such packets out.
	if err := sysctl("net/ipv4/conf/"+w.Bridge+"/route_localnet", "1"); err != nil {
		return err
	}
	if was, _ := os.ReadFile("/proc/sys/net/ipv4/ip_forward"); strings.TrimSpace(string(was)) != "1" {
		h.log.Info("turning on net.ipv4.ip_forward, which containers need to reach other hosts")
		return sysctl("net/ipv4/ip_forward", "1")
	}
	return nil
}

func sysctl(path, value string) error {
	return errs.Wrap(os.WriteFile("/proc/sys/"+path, []byte(value), 0o644), "set sysctl %s to %s", path, value)
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

// plug makes the container's namespace, with a leg in the bridge, an address and a default route.
func (h *host) plug(id brig.ID, w *brig.Network, ep *brig.Endpoint) error {
	ns, err := h.makeNetns(id)
	if err != nil {
		return err
	}
	defer ns.Close()
	br, err := netlink.LinkByName(w.Bridge)
	if err != nil {
		return errs.Wrap(err, "find bridge %s", w.Bridge)
	}
	mac, err := net.ParseMAC(ep.MAC)
	if err != nil {
		return errs.New(errs.Invalid, "invalid MAC address: %s", ep.MAC)
	}
	veth := &netlink.Veth{
		LinkAttrs: netlink.LinkAttrs{Name: h.vethName(ep.EndpointID), MasterIndex: br.Attrs().Index, Flags: net.FlagUp},
		PeerName:  "eth0", PeerHardwareAddr: mac, PeerNamespace: netlink.NsFd(int(ns.Fd())),
	}
	if err := netlink.LinkAdd(veth); err != nil {
		return errs.Wrap(err, "add veth pair %s", veth.Name)
	}
	fault.Point("veth.added")
	return inNetns(ns, func() error { return configure(ep) })
}

// configure sets up lo and eth0 in the namespace of the calling thread.
func configure(ep *brig.Endpoint) error {
	nl, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return errs.Wrap(err, "open netlink in the container's namespace")
	}
	defer nl.Close()
	lo, err := nl.LinkByName("lo")
	if err != nil {
		return errs.Wrap(err, "find lo")
	}
	if err := nl.LinkSetUp(lo); err != nil {
		return errs.Wrap(err, "bring up lo")
	}
	eth, err := nl.LinkByName("eth0")
	if err != nil {
		return errs.Wrap(err, "find eth0")
	}
	if err := nl.AddrAdd(eth, &netlink.Addr{IPNet: ipNet(ep.Addr4)}); err != nil {
		return errs.Wrap(err, "give %s to eth0", ep.Addr4)
	}
	if err := nl.LinkSetUp(eth); err != nil {
		return errs.Wrap(err, "bring up eth0")
	}
	return errs.Wrap(nl.RouteAdd(&netlink.Route{LinkIndex: eth.Attrs().Index, Gw: ep.Gateway4.AsSlice()}), "route by %s", ep.Gateway4)
}

// makeNetns makes a namespace bound to the container's file and returns it open.
func (h *host) makeNetns(id brig.ID) (*os.File, error) {
	if err := h.prepareDir(); err != nil {
		return nil, err
	}
	path := h.netnsPath(id)
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDONLY, 0o600)
	if err != nil {
		return nil, errs.Wrap(err, "make the network namespace's file")
	}
	f.Close()
	fault.Point("netns.file")
	err = onThread(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return errs.Wrap(err, "make a network namespace")
		}
		// No IPv6 on interfaces to come; lo keeps ::1, as Docker has it.
		if err := sysctl("net/ipv6/conf/default/disable_ipv6", "1"); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		self := "/proc/self/task/" + strconv.Itoa(unix.Gettid()) + "/ns/net"
		return errs.Wrap(unix.Mount(self, path, "", unix.MS_BIND, ""), "bind the network namespace to %s", path)
	})
	if err != nil {
		return nil, err
	}
	fault.Point("netns.bound")
	return os.Open(path)
}

// prepareDir makes dir a private mount, so that no namespace made elsewhere on the host holds on to ours.
func (h *host) prepareDir() error {
	if h.shared {
		return nil
	}
	if err := os.MkdirAll(h.dir, 0o700); err != nil {
		return errs.Wrap(err, "make the namespaces' directory")
	}
	if !isMountPoint(h.dir) {
		if err := unix.Mount(h.dir, h.dir, "", unix.MS_BIND, ""); err != nil {
			return errs.Wrap(err, "bind %s to itself", h.dir)
		}
	}
	if err := unix.Mount("", h.dir, "", unix.MS_PRIVATE, ""); err != nil {
		return errs.Wrap(err, "make %s private", h.dir)
	}
	h.shared = true
	return nil
}

// isMountPoint reports whether dir is the root of a mount: statx(2), STATX_ATTR_MOUNT_ROOT.
func isMountPoint(dir string) bool {
	var st unix.Statx_t
	err := unix.Statx(unix.AT_FDCWD, dir, 0, unix.STATX_BASIC_STATS, &st)
	return err == nil && st.Attributes&unix.STATX_ATTR_MOUNT_ROOT != 0
}

// onThread runs f on a thread of its own, which ends with it.
func onThread(f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread is not fit for anything else afterwards
		done <- f()
	}()
	return <-done
}

func inNetns(ns *os.File, f func() error) error {
	return onThread(func() error {
		if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
			return errs.Wrap(err, "enter network namespace %s", ns.Name())
		}
		return f()
	})
}

// release removes the container's namespace; its link goes with it when the last process in it has ended.
func (h *host) release(id brig.ID) error { return h.removeNetns(h.netnsPath(id)) }

// unplug removes an endpoint's link. One that is not there is removed already.
func (h *host) unplug(endpoint brig.ID) error { return h.removeLink(h.vethName(endpoint)) }

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

func (h *host) removeNetns(path string) error {
	if err := unix.Unmount(path, unix.MNT_DETACH); err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) {
		return errs.Wrap(err, "unmount network namespace %s", path)
	}
	fault.Point("netns.unbound")
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return errs.Wrap(err, "remove network namespace %s", path)
	}
	return nil
}

// sweep removes links and namespaces of this instance that belong to no container in keep, which gives each its endpoint.
func (h *host) sweep(keep map[brig.ID]brig.ID) error {
	names, files := map[string]bool{}, map[string]bool{}
	for id, endpoint := range keep {
		names[h.vethName(endpoint)], files[h.netnsPath(id)] = true, true
	}
	links, err := netlink.LinkList()
	for _, l := range links {
		if name := l.Attrs().Name; strings.HasPrefix(name, h.vethPrefix()) && !names[name] {
			err = errors.Join(err, h.removeLink(name))
		}
	}
	entries, _ := os.ReadDir(h.dir)
	for _, e := range entries {
		if path := filepath.Join(h.dir, e.Name()); !files[path] {
			err = errors.Join(err, h.removeNetns(path))
		}
	}
	return err
}

// remove takes away all that this instance has on the host.
func (h *host) remove(w *brig.Network) error {
	err := errors.Join(h.sweep(nil), h.clearRules())
	if w != nil && w.Bridge != "" {
		err = errors.Join(err, h.removeLink(w.Bridge))
	}
	if isMountPoint(h.dir) {
		err = errors.Join(err, errs.Wrap(unix.Unmount(h.dir, unix.MNT_DETACH), "unmount %s", h.dir))
	}
	h.shared = false
	return err
}
