package testbed

import (
	"bytes"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// hostLeft lists cgroups, network namespaces and tables of nftables.
func (s *Server) hostLeft(id string, stopped bool) (left []string, err error) {
	err = filepath.WalkDir("/sys/fs/cgroup", func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() && strings.Contains(d.Name(), id) {
			left = append(left, "cgroup "+path)
		}
		return nil // a cgroup that went away meanwhile is no error
	})
	if out, err := exec.Command("nft", "list", "ruleset").Output(); err == nil && stopped && bytes.Contains(out, []byte(id)) {
		left = append(left, "nftables rules")
	}
	spaces, _ := os.ReadDir(filepath.Join(s.Root, "netns"))
	for _, e := range spaces {
		left = append(left, "network namespace "+e.Name())
	}
	return left, err
}

// mark is what brigd has written on a link of its own choosing.
func mark(l net.Interface) string {
	alias, _ := os.ReadFile("/sys/class/net/" + l.Name + "/ifalias")
	return strings.TrimSpace(string(alias))
}

// Objects counts what brigd's instance has on the host for its running containers, by kind.
func (s *Server) Objects() (map[string]int, error) {
	id, err := s.Instance()
	if err != nil {
		return nil, err
	}
	n := map[string]int{"netns": 0, "cgroups": 0, "mounts": 0, "rules": 0}
	spaces, _ := os.ReadDir(filepath.Join(s.Root, "netns"))
	n["netns"] = len(spaces)
	groups := map[string]bool{}
	dirs, _ := filepath.Glob("/sys/fs/cgroup/*/brig-" + id + "/*")
	for _, d := range dirs {
		if st, err := os.Stat(d); err == nil && st.IsDir() {
			groups[filepath.Base(d)] = true
		}
	}
	n["cgroups"] = len(groups)
	b, err := os.ReadFile("/proc/self/mountinfo")
	n["mounts"] = bytes.Count(b, []byte(" "+s.Root+"/store/mnt/"))
	out, _ := exec.Command("nft", "list", "table", "ip", "brig_"+id).Output()
	n["rules"] = bytes.Count(out, []byte("dnat to"))
	return n, err
}

// Unnet takes a container's network stack away; only one container runs.
func (s *Server) Unnet() error {
	list, err := os.ReadDir(filepath.Join(s.Root, "netns"))
	if err != nil || len(list) != 1 {
		return fmt.Errorf("%d network namespaces, %w", len(list), err)
	}
	file := filepath.Join(s.Root, "netns", list[0].Name())
	if out, err := exec.Command("umount", "-l", file).CombinedOutput(); err != nil {
		return fmt.Errorf("umount %s: %w: %s", file, err, out)
	}
	return os.Remove(file)
}

// Unrule takes the rules of the instance's networks away.
func (s *Server) Unrule() error {
	id, err := s.Instance()
	if err != nil {
		return err
	}
	return Nft("delete", "table", "ip", "brig_"+id)
}

// Unlimit takes the cgroups of a container away: its processes go to the root of each hierarchy.
func (s *Server) Unlimit(container string) error {
	id, err := s.Instance()
	if err != nil {
		return err
	}
	dirs, _ := filepath.Glob("/sys/fs/cgroup/*/brig-" + id + "/" + container)
	for _, d := range dirs {
		b, err := os.ReadFile(filepath.Join(d, "cgroup.procs"))
		if err != nil {
			return err
		}
		for _, pid := range strings.Fields(string(b)) {
			if err := os.WriteFile(filepath.Join(d, "..", "..", "cgroup.procs"), []byte(pid), 0); err != nil {
				return err
			}
		}
		if err := unix.Rmdir(d); err != nil {
			return err
		}
	}
	return nil
}

// Nft runs nft with these arguments.
func Nft(args ...string) error {
	out, err := exec.Command("nft", args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("nft %s: %w: %s", strings.Join(args, " "), err, out)
	}
	return nil
}
