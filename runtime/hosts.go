package runtime

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
	"github.com/brigd/brig/internal/resolv"
)

// hostHosts is the host's file that containers' in its network are made from.
const hostHosts = "/etc/hosts"

// baseHosts heads every hosts file that isn't the host's.
const baseHosts = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\nfe00::\tip6-localnet\nff00::\tip6-mcastprefix\n" +
	"ff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n"

// writeFiles writes hostname, hosts and resolv.conf of d, whose endpoints are those of this run, and returns the mounts that
// show them in the container. One that shares another's network shares its files.
func (c *Containers) writeFiles(d *brig.Container, owner *brig.Container, links []link) ([]brig.JailMount, error) {
	if owner == nil {
		if err := os.MkdirAll(c.dir(d.ID), 0o710); err != nil {
			return nil, errs.Wrap(err, "make the container's directory")
		}
		hosts, err := hostsFile(d, links)
		if err != nil {
			return nil, err
		}
		conf, err := resolv.For(d.Spec.DNS, networkMode(&d.Spec) == "host", servers(d))
		if err != nil {
			return nil, err
		}
		for _, f := range []struct{ path, text string }{{d.HostnamePath, d.Spec.Hostname + "\n"}, {d.HostsPath, hosts}, {d.ResolvConfPath, conf}} {
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

// hostsFile is Docker's /etc/hosts: the host's own in its network, unless there are extra hosts; else the base, the extra hosts, links, and
// the container itself.
func hostsFile(d *brig.Container, links []link) (string, error) {
	var b strings.Builder
	if networkMode(&d.Spec) == "host" && len(d.Spec.ExtraHosts) == 0 {
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
	for _, l := range links {
		b.WriteString(l.hostsLine())
	}
	for _, line := range ownLines(d) {
		b.WriteString(line)
	}
	return b.String(), nil
}

// ownLines are a hosts file's lines for the container itself, those of its main network first.
func ownLines(d *brig.Container) (out []string) {
	names := d.Spec.Hostname // a host name may be a full one by itself
	if d.Spec.Domainname != "" {
		names += "." + d.Spec.Domainname
	}
	if short, _, full := strings.Cut(names, "."); full {
		names += " " + short
	}
	main := networkMode(&d.Spec)
	nets := slices.SortedFunc(maps.Keys(d.Endpoints), func(a, b string) int {
		if (a == main) != (b == main) {
			return map[bool]int{true: -1, false: 1}[a == main]
		}
		return strings.Compare(a, b)
	})
	for _, name := range nets {
		for _, p := range []netip.Prefix{d.Endpoints[name].Addr4, d.Endpoints[name].Addr6} {
			if p.IsValid() {
				out = append(out, fmt.Sprintf("%s\t%s\n", p.Addr(), names))
			}
		}
	}
	return out
}

// resolves reports whether a container has a DNS server of its own: it is in a network of a user's.
func resolves(d *brig.Container) bool {
	for name := range d.Endpoints {
		if !brig.Predefined(name) {
			return true
		}
	}
	return false
}

// servers are where a container finds DNS servers of brig's, in the order of its networks' names; none in no network of a user's.
func servers(d *brig.Container) (out []string) {
	for _, name := range slices.Sorted(maps.Keys(d.Endpoints)) {
		if at := d.Endpoints[name].Resolver; at.IsValid() {
			out = append(out, at.String())
		}
	}
	if len(out) == 0 && resolves(d) {
		return []string{resolv.Embedded}
	}
	return out
}

// changeHosts edits the hosts file of a container that runs, in place since it is mounted: lines that are as one of gone go, those of
// more come. What else is in there is the container's.
func (c *Containers) changeHosts(d *brig.Container, gone, more []string) error {
	c.hosts.Lock()
	defer c.hosts.Unlock()
	text, err := os.ReadFile(d.HostsPath)
	if err != nil {
		return errs.Wrap(err, "read the container's hosts")
	}
	var b strings.Builder
	for line := range strings.Lines(string(text)) {
		if !slices.Contains(gone, line) {
			b.WriteString(line)
		}
	}
	for _, line := range more {
		if !strings.Contains("\n"+b.String(), "\n"+line) {
			b.WriteString(line)
		}
	}
	return errs.Wrap(os.WriteFile(d.HostsPath, []byte(b.String()), 0o644), "write the container's hosts")
}

// changeFiles brings hosts and resolv.conf of a container that runs in line with its networks now; before is what it was. A resolv.conf
// that the container has changed stays.
func (c *Containers) changeFiles(before, now *brig.Container) error {
	err := c.changeHosts(now, ownLines(before), ownLines(now))
	if slices.Equal(servers(before), servers(now)) {
		return err
	}
	was, e1 := resolv.For(before.Spec.DNS, false, servers(before))
	want, e2 := resolv.For(now.Spec.DNS, false, servers(now))
	have, e3 := os.ReadFile(now.ResolvConfPath)
	err = errors.Join(err, e1, e2, e3)
	if err == nil && string(have) == was {
		err = errs.Wrap(os.WriteFile(now.ResolvConfPath, []byte(want), 0o644), "write the container's resolv.conf")
	}
	return err
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

// relink puts another line in the place of a link's in the hosts file of p, which runs; "" takes it away. The name of the linked container
// may have changed since the line was written.
func (c *Containers) relink(p *brig.Container, l *link, with string) error {
	c.hosts.Lock()
	defer c.hosts.Unlock()
	text, err := os.ReadFile(p.HostsPath)
	if err != nil {
		return errs.Wrap(err, "read the container's hosts")
	}
	var b strings.Builder
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); len(f) > 2 && f[1] == l.alias && f[2] == l.to.Spec.Hostname {
			line = with
		}
		b.WriteString(line)
	}
	return errs.Wrap(os.WriteFile(p.HostsPath, []byte(b.String()), 0o644), "write the container's hosts")
}
