package testbed

import (
	"bytes"
	"fmt"
	"net"
	"os/exec"
	"regexp"
	"strings"

	"github.com/moby/sys/mountinfo"
)

// jails lists the host's by their full names.
func jails() ([]string, error) {
	out, err := output("jls", "name")
	return strings.Fields(string(out)), err
}

// rules are the lines of pf's anchor of an instance, filter and translation.
func rules(id string) (lines []string, err error) {
	for _, kind := range []string{"nat", "rules"} {
		out, err := output("pfctl", "-a", "brig/"+id, "-s", kind)
		if err != nil {
			return nil, err
		}
		lines = append(lines, strings.Split(strings.TrimSpace(string(out)), "\n")...)
	}
	return lines, nil
}

// output is what a program prints; its words of complaint go into the error.
func output(program string, args ...string) ([]byte, error) {
	var out, said bytes.Buffer
	cmd := exec.Command(program, args...)
	cmd.Stdout, cmd.Stderr = &out, &said
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("%s %s: %w: %s", program, strings.Join(args, " "), err, said.Bytes())
	}
	return out.Bytes(), nil
}

// hostLeft lists jails, limits and rules of pf.
func (s *Server) hostLeft(id string, stopped bool) (left []string, err error) {
	names, err := jails()
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		if strings.Contains(name, id) {
			left = append(left, "jail "+name)
		}
	}
	if out, err := exec.Command("rctl").Output(); err == nil && bytes.Contains(out, []byte(id)) { // it fails on a host that has no limits
		left = append(left, "rules of rctl")
	}
	if !stopped {
		return left, nil
	}
	if lines, err := rules(id); err == nil && strings.Join(lines, "") != "" { // it fails on a host without pf
		left = append(left, "rules of pf")
	}
	return left, nil
}

// mark is what brigd has written on an interface of its own choosing.
func mark(l net.Interface) string {
	out, _ := exec.Command("ifconfig", l.Name).Output()
	m := regexp.MustCompile(`(?m)^\tdescription: (.*)$`).FindSubmatch(out)
	if m == nil {
		return ""
	}
	return string(m[1])
}

// Objects counts what brigd's instance has on the host for its running containers, by kind.
func (s *Server) Objects() (map[string]int, error) {
	id, err := s.Instance()
	if err != nil {
		return nil, err
	}
	names, err := jails()
	if err != nil {
		return nil, err
	}
	n := map[string]int{"stacks": 0, "jails": 0, "mounts": 0} // no rules: what is published on localhost alone is relayed
	for _, name := range names {
		switch own := name[strings.LastIndexByte(name, '.')+1:]; {
		case strings.HasPrefix(own, "brignet-"+id+"-"):
			n["stacks"]++
		case strings.HasPrefix(own, "brig-"+id+"-"):
			n["jails"]++
		}
	}
	mounts, err := mountinfo.GetMounts(mountinfo.PrefixFilter(s.Root))
	if err != nil {
		return nil, err
	}
	for _, m := range mounts {
		if m.Mountpoint != s.Root {
			n["mounts"]++
		}
	}
	return n, nil
}

// Unnet takes a container's network stack away; only one container runs. Its jail goes with it: it is that jail's child.
func (s *Server) Unnet() error {
	id, err := s.Instance()
	if err != nil {
		return err
	}
	names, err := jails()
	if err != nil {
		return err
	}
	for _, name := range names {
		if strings.HasPrefix(name, "brignet-"+id+"-") && !strings.Contains(name, ".") {
			_, err := output("jail", "-r", name)
			return err
		}
	}
	return fmt.Errorf("no jail of instance %s has a network stack", id)
}

// Unrule takes the rules of the instance's networks away.
func (s *Server) Unrule() error {
	id, err := s.Instance()
	if err != nil {
		return err
	}
	for _, kind := range []string{"nat", "rules"} {
		if _, err := output("pfctl", "-a", "brig/"+id, "-F", kind); err != nil {
			return err
		}
	}
	return nil
}

// Unlimit takes the limits of all containers away.
func (s *Server) Unlimit(string) error {
	id, err := s.Instance()
	if err != nil {
		return err
	}
	names, err := jails()
	if err != nil {
		return err
	}
	for _, name := range names {
		if strings.Contains(name, "brig-"+id+"-") {
			if _, err := output("rctl", "-r", "jail:"+name); err != nil {
				return err
			}
		}
	}
	return nil
}
