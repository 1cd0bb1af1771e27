package network

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/google/nftables"
	"github.com/vishvananda/netlink"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
)

// strays lists links by name and namespaces by path that belong to no container in keep, which gives each its endpoint.
func (h *host) strays(keep map[brig.ID]brig.ID) (out []string, err error) {
	names, files := map[string]bool{}, map[string]bool{}
	for id, endpoint := range keep {
		files[h.netnsPath(id)] = true
		if endpoint != "" {
			names[h.vethName(endpoint)] = true
		}
	}
	links, err := netlink.LinkList()
	if err != nil {
		return nil, errs.Wrap(err, "list links")
	}
	for _, l := range links {
		if name := l.Attrs().Name; strings.HasPrefix(name, h.vethPrefix()) && !names[name] {
			out = append(out, name)
		}
	}
	entries, _ := os.ReadDir(h.dir)
	for _, e := range entries {
		if path := filepath.Join(h.dir, e.Name()); !files[path] {
			out = append(out, path)
		}
	}
	return out, nil
}

// scrap deletes a link or a namespace that strays has listed.
func (h *host) scrap(name string) error {
	if strings.HasPrefix(name, "/") {
		return h.removeNetns(name)
	}
	return h.removeLink(name)
}

// missing says what of the bridge and the rules is not there.
func (h *host) missing(w *brig.Network) (out []string) {
	if _, err := netlink.LinkByName(w.Bridge); err != nil {
		out = append(out, fmt.Sprintf("the bridge %s is gone: %v", w.Bridge, err))
	}
	c, err := nftables.New()
	if err != nil {
		return append(out, "nftables can't be asked: "+err.Error())
	}
	tables, err := c.ListTablesOfFamily(nftables.TableFamilyIPv4)
	if err != nil {
		return append(out, "nftables can't be asked: "+err.Error())
	}
	for _, t := range tables {
		if t.Name == h.tableName() {
			return out
		}
	}
	return append(out, "the nftables table ip "+h.tableName()+" is gone")
}

// notes says what others have done to this host that keeps packets from containers.
func (h *host) notes() (out []string) {
	if b, _ := os.ReadFile("/proc/sys/net/ipv4/ip_forward"); h.up && strings.TrimSpace(string(b)) != "1" {
		out = append(out, "net.ipv4.ip_forward is off: containers don't reach other hosts")
	}
	c, err := nftables.New()
	if err != nil {
		return append(out, "nftables can't be used: "+err.Error())
	}
	chains, err := c.ListChains()
	if err != nil {
		return append(out, "nftables can't be asked: "+err.Error())
	}
	for _, ch := range chains {
		if ch.Hooknum != nil && *ch.Hooknum == *nftables.ChainHookForward && ch.Policy != nil && *ch.Policy == nftables.ChainPolicyDrop &&
			(ch.Table.Family == nftables.TableFamilyIPv4 || ch.Table.Family == nftables.TableFamilyINet) {
			out = append(out, fmt.Sprintf("chain %s of table %s drops what it is not told to forward (another container engine does that): containers may not reach other hosts, nor be reached from there", ch.Name, ch.Table.Name))
		}
	}
	return out
}
