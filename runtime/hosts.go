package runtime

import (
	"bytes"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
)

// The host's files that containers' files are made from.
const (
	hostHosts    = "/etc/hosts"
	hostResolv   = "/etc/resolv.conf"
	systemdProxy = "/run/systemd/resolve/resolv.conf" // the real servers, where the host's file names systemd-resolved's 127.0.0.53
)

// baseHosts heads every hosts file that isn't the host's.
const baseHosts = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\nfe00::\tip6-localnet\nff00::\tip6-mcastprefix\n" +
	"ff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n"

// writeFiles writes hostname, hosts and resolv.conf of d, whose endpoints are those of this run, and returns the mounts that
// show them in the container. One that shares another's network shares its files.
func (c *Containers) writeFiles(d *brig.Container, owner *brig.Container) ([]brig.JailMount, error) {
	if owner == nil {
		if err := os.MkdirAll(c.dir(d.ID), 0o710); err != nil {
			return nil, errs.Wrap(err, "make the container's directory")
		}
		hosts, err := hostsFile(d)
		if err != nil {
			return nil, err
		}
		resolv, err := resolvConf(d)
		if err != nil {
			return nil, err
		}
		for _, f := range []struct{ path, text string }{{d.HostnamePath, d.Spec.Hostname + "\n"}, {d.HostsPath, hosts}, {d.ResolvConfPath, resolv}} {
			if err := os.WriteFile(f.path, []byte(f.text), 0o644); err != nil {
				return nil, errs.Wrap(err, "write the container's %s", filepath.Base(f.path))
			}
		}
	}
	opts := []string{"rbind", "rprivate", "rw"}
	if d.Spec.ReadOnly {
		opts[2] = "ro"
	}
	var out []brig.JailMount
	for _, f := range [][2]string{{d.ResolvConfPath, "/etc/resolv.conf"}, {d.HostnamePath, "/etc/hostname"}, {d.HostsPath, "/etc/hosts"}} {
		if !slices.ContainsFunc(d.Mounts, func(m brig.MountPoint) bool { return m.Target == f[1] }) {
			out = append(out, brig.JailMount{Type: brig.MountBind, Source: f[0], Target: f[1], Options: opts})
		}
	}
	return out, nil
}

// hostsFile is Docker's /etc/hosts: the host's own in its network, else the base; then the extra hosts; then the container itself.
func hostsFile(d *brig.Container) (string, error) {
	var b strings.Builder
	if networkMode(&d.Spec) == "host" {
		text, err := os.ReadFile(hostHosts)
		if err != nil && !os.IsNotExist(err) {
			return "", errs.Wrap(err, "read the host's hosts")
		}
		b.Write(text)
	} else {
		b.WriteString(baseHosts)
	}
	for _, h := range d.Spec.ExtraHosts {
		name, addr, ok := strings.Cut(h, ":")
		if !ok {
			return "", errs.New(errs.Invalid, "bad format for add-host: %q", h)
		}
		if addr == "host-gateway" {
			gw, err := gateway(d)
			if err != nil {
				return "", err
			}
			addr = gw.String()
		}
		fmt.Fprintf(&b, "%s\t%s\n", strings.Trim(addr, "[]"), name)
	}
	names := d.Spec.Hostname
	if d.Spec.Domainname != "" {
		names = d.Spec.Hostname + "." + d.Spec.Domainname + " " + d.Spec.Hostname
	}
	for _, name := range slices.Sorted(maps.Keys(d.Endpoints)) {
		for _, p := range []netip.Prefix{d.Endpoints[name].Addr4, d.Endpoints[name].Addr6} {
			if p.IsValid() {
				fmt.Fprintf(&b, "%s\t%s\n", p.Addr(), names)
			}
		}
	}
	return b.String(), nil
}

// gateway finds what host-gateway stands for: the host's address on the container's network.
func gateway(d *brig.Container) (netip.Addr, error) {
	if networkMode(&d.Spec) == "host" {
		return netip.AddrFrom4([4]byte{127, 0, 0, 1}), nil
	}
	for _, name := range slices.Sorted(maps.Keys(d.Endpoints)) {
		if gw := d.Endpoints[name].Gateway4; gw.IsValid() {
			return gw, nil
		}
	}
	return netip.Addr{}, errs.New(errs.Invalid, "unable to derive the IP value for host-gateway")
}

// resolvConf is the host's with the request's settings over it. Outside the host's network, servers on the loopback are
// of no use and left out; if that leaves none, public ones are named, as dockerd does.
func resolvConf(d *brig.Container) (string, error) {
	text, err := os.ReadFile(hostResolv)
	if err != nil && !os.IsNotExist(err) {
		return "", errs.Wrap(err, "read the host's resolv.conf")
	}
	host := networkMode(&d.Spec) == "host"
	if !host && bytes.Contains(text, []byte("127.0.0.53")) {
		if better, err := os.ReadFile(systemdProxy); err == nil {
			text = better
		}
	}
	return mergeResolv(string(text), d.Spec.DNS, host), nil
}

// mergeResolv works on the text of resolv.conf(5).
func mergeResolv(text string, dns brig.DNS, host bool) string {
	if host && len(dns.Servers)+len(dns.Search)+len(dns.Options) == 0 {
		return text
	}
	var servers, search, options []string
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) < 2 {
			continue
		}
		switch f[0] {
		case "nameserver":
			if a, err := netip.ParseAddr(f[1]); err == nil && (host || !a.IsLoopback()) {
				servers = append(servers, f[1])
			}
		case "search", "domain": // the last one counts
			search = f[1:]
		case "options":
			options = append(options, f[1:]...)
		}
	}
	if len(dns.Servers) > 0 {
		servers = dns.Servers
	}
	if len(servers) == 0 {
		servers = []string{"8.8.8.8", "8.8.4.4"}
	}
	if len(dns.Search) > 0 {
		search = dns.Search
	}
	if len(dns.Options) > 0 {
		options = dns.Options
	}
	var b strings.Builder
	for _, s := range servers {
		fmt.Fprintf(&b, "nameserver %s\n", s)
	}
	if len(search) > 0 && !slices.Equal(search, []string{"."}) {
		fmt.Fprintf(&b, "search %s\n", strings.Join(search, " "))
	}
	if len(options) > 0 {
		fmt.Fprintf(&b, "options %s\n", strings.Join(options, " "))
	}
	return b.String()
}
