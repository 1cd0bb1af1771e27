package compose

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/brigd/brig/integration/internal/testbed"
)

// builtins are the words of scripts that are no commands.
//
//	states              each container: SERVICE-NUMBER, state, exit code or health, restarts
//	mark, changed       which containers are the same as at the mark, new or gone; changed is a mark too
//	resolve C NAME...   the containers whose addresses the resolver of container C gives for each name
//	get URL             status and body, from the host; @web:80 is where that port is published
//	tcp ADDRESS TEXT    what is answered to a line of text
//	udp ADDRESS TEXT    what is answered to a datagram
//	left                containers, networks and volumes of the project
//	set NAME=VALUE      a variable for the commands after it
//	write FILE TEXT     a file in the project's folder; \n is a new line
//	read FILE           what a file has
//	bg JOB COMMAND...   a command that goes on; it is interrupted at the end if not before
//	said JOB            what it has printed by now
//	stop JOB            interrupts it and gives its exit code
//	sorted COMMAND      what it prints, in order
//	count TEXT COMMAND  how many lines of what the command prints have the text
var builtins map[string]func(*project, []string) ([]string, error)

func init() { // set here, because bg's command is looked up in it
	builtins = map[string]func(*project, []string) ([]string, error){"states": (*project).states, "mark": (*project).mark, "changed": (*project).changed, "resolve": (*project).resolve,
		"get": (*project).get, "tcp": (*project).tcp, "udp": (*project).tcp, "left": (*project).left, "set": (*project).set, "write": (*project).write, "read": (*project).read, "bg": (*project).background,
		"said": (*project).said, "stop": (*project).stop, "count": (*project).count, "sorted": (*project).sorted}
}

// inspected is what is looked at of a container.
type inspected struct {
	ID           string `json:"Id"`
	Name         string
	RestartCount int
	State        struct {
		Status   string
		ExitCode int
		Health   *struct{ Status string }
	}
	Config          struct{ Labels map[string]string }
	NetworkSettings struct {
		Networks map[string]struct{ IPAddress string }
		Ports    map[string][]struct{ HostIP, HostPort string }
	}
}

const label = "com.docker.compose."

func (p *project) containers() []inspected {
	return inspect("label=" + label + "project=" + p.name)
}

func inspect(filter ...string) (out []inspected) {
	args := []string{"ps", "-aq", "--no-trunc"}
	for _, f := range filter {
		args = append(args, "--filter", f)
	}
	for _, id := range strings.Fields(bed.cli.Run(bed.ctx, nil, args...).Out) {
		var one []inspected
		// One that is gone meanwhile is no error.
		if json.Unmarshal([]byte(bed.cli.Run(bed.ctx, nil, "inspect", id).Out), &one) == nil {
			out = append(out, one...)
		}
	}
	slices.SortFunc(out, func(a, b inspected) int { return strings.Compare(a.Name, b.Name) })
	return out
}

// display is SERVICE-NUMBER, whatever this version of compose calls the container; another project's comes with its name.
func (p *project) display(c inspected) string {
	l := c.Config.Labels
	name := l[label+"service"] + "-" + l[label+"container-number"]
	if l[label+"oneoff"] == "True" {
		name = l[label+"service"] + "-run"
	}
	if of := l[label+"project"]; of == "" {
		return strings.TrimPrefix(c.Name, "/")
	} else if of != p.name {
		return of + ":" + name
	}
	return name
}

func (p *project) id(service string) (string, error) {
	service, number, _ := strings.Cut(service, ".")
	if number == "" {
		number = "1"
	}
	for _, c := range p.containers() {
		if l := c.Config.Labels; l[label+"service"] == service && l[label+"container-number"] == number && l[label+"oneoff"] != "True" {
			return c.ID, nil
		}
	}
	return "", fmt.Errorf("no container %s.%s", service, number)
}

func (p *project) states([]string) (out []string, err error) {
	for _, c := range p.containers() {
		line := p.display(c) + " " + c.State.Status
		switch {
		case c.State.Status == "exited" || c.State.Status == "dead":
			line += fmt.Sprint(" ", c.State.ExitCode)
		case c.State.Health != nil && c.State.Health.Status != "none":
			line += " " + c.State.Health.Status
		}
		if c.RestartCount > 0 {
			line += fmt.Sprint(" restarts=", c.RestartCount)
		}
		out = append(out, line)
	}
	slices.Sort(out)
	return out, nil
}

func (p *project) mark([]string) ([]string, error) {
	p.marks = map[string]string{}
	for _, c := range p.containers() {
		p.marks[p.display(c)] = c.ID
	}
	return nil, nil
}

func (p *project) changed([]string) (out []string, err error) {
	old := p.marks
	p.mark(nil)
	for _, name := range slices.Sorted(maps.Keys(p.marks)) {
		if old[name] == p.marks[name] {
			out = append(out, name+" kept")
		} else {
			out = append(out, name+" new")
		}
	}
	for _, name := range slices.Sorted(maps.Keys(old)) {
		if p.marks[name] == "" {
			out = append(out, name+" gone")
		}
	}
	return out, nil
}

func (p *project) resolve(args []string) (out []string, err error) {
	id, err := p.id(args[0])
	if err != nil {
		return nil, err
	}
	owner := map[string]string{}
	for _, c := range inspect() {
		for _, n := range c.NetworkSettings.Networks {
			owner[n.IPAddress] = p.display(c)
		}
	}
	for _, name := range args[1:] {
		r := bed.cli.Run(bed.ctx, nil, "exec", id, "nslookup", name)
		var found []string
		_, answer, _ := strings.Cut(r.Out, "\n\n") // after the server's own name and address
		for line := range strings.Lines(answer) {
			if f := strings.Fields(line); len(f) >= 2 && strings.HasPrefix(f[0], "Address") {
				addr := f[len(f)-1]
				if owner[addr] != "" {
					addr = owner[addr]
				}
				found = append(found, addr)
			}
		}
		slices.Sort(found)
		found = slices.Compact(found)
		if len(found) == 0 {
			found = []string{"unknown"}
		}
		out = append(out, name+": "+strings.Join(found, " "))
	}
	return out, nil
}

// address makes an address of @SERVICE:PORT/PROTO, as it is published.
func (p *project) address(s string) (string, error) {
	if !strings.HasPrefix(s, "@") {
		return s, nil
	}
	service, port, _ := strings.Cut(s[1:], ":")
	if !strings.Contains(port, "/") {
		port += "/tcp"
	}
	id, err := p.id(service)
	if err != nil {
		return "", err
	}
	for _, c := range p.containers() {
		for _, b := range c.NetworkSettings.Ports[port] {
			if c.ID == id && b.HostIP != "::" {
				return "127.0.0.1:" + b.HostPort, nil
			}
		}
	}
	return "", fmt.Errorf("%s is not published", s)
}

func (p *project) get(args []string) ([]string, error) {
	host, path, _ := strings.Cut(args[0], "/")
	addr, err := p.address(host)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(bed.ctx, testbed.Slow(10*time.Second))
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+"/"+path, nil)
	if err != nil {
		return nil, err
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		return []string{"no answer"}, nil
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return []string{fmt.Sprint(resp.StatusCode, " ", strings.TrimSpace(string(b)))}, err
}

func (p *project) tcp(args []string) ([]string, error) {
	network := "tcp"
	addr, udp := strings.CutSuffix(args[0], "/udp")
	if udp {
		network = "udp"
	}
	if strings.HasPrefix(addr, "@") {
		addr = args[0]
	}
	addr, err := p.address(addr)
	if err != nil {
		return nil, err
	}
	c, err := net.DialTimeout(network, addr, testbed.Slow(5*time.Second))
	if err != nil {
		return []string{"no answer"}, nil
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(testbed.Slow(5 * time.Second)))
	if _, err := fmt.Fprintf(c, "%s\r\n", strings.ReplaceAll(strings.Join(args[1:], " "), `\n`, "\r\n")); err != nil {
		return []string{"no answer"}, nil
	}
	line, err := bufio.NewReader(c).ReadString('\n')
	if err != nil && line == "" {
		return []string{"no answer"}, nil
	}
	return []string{line}, nil
}

func (p *project) left([]string) (out []string, err error) {
	for _, list := range [][]string{{"container", "ls", "-a", "--format", "container {{.Names}}"}, {"network", "ls", "--format", "network {{.Name}}"}, {"volume", "ls", "--format", "volume {{.Name}}"}} {
		r := bed.cli.Run(bed.ctx, nil, append(list, "--filter", "label="+label+"project="+p.name)...)
		if r.Code != 0 {
			return nil, errors.New(r.Err)
		}
		found := strings.Fields(strings.ReplaceAll(strings.TrimSpace(r.Out), " ", "_"))
		slices.Sort(found)
		for _, f := range found {
			out = append(out, strings.Replace(f, "_", " ", 1))
		}
	}
	return out, nil
}

func (p *project) set(args []string) ([]string, error) {
	p.env = append(p.env, args...)
	return nil, nil
}

func (p *project) write(args []string) ([]string, error) {
	text := strings.ReplaceAll(strings.Join(args[1:], " "), `\n`, "\n") + "\n"
	return nil, os.WriteFile(filepath.Join(p.dir, args[0]), []byte(text), 0o644)
}

func (p *project) read(args []string) ([]string, error) {
	b, err := os.ReadFile(filepath.Join(p.dir, args[0]))
	return []string{string(b)}, err
}

func (p *project) count(args []string) ([]string, error) {
	cmd, err := p.command(bed.ctx, args[1:])
	if err != nil {
		return nil, err
	}
	b, err := cmd.Output()
	n := 0
	for line := range strings.Lines(string(b)) {
		if strings.Contains(line, args[0]) {
			n++
		}
	}
	return []string{fmt.Sprint(n)}, err
}

func (p *project) sorted(args []string) ([]string, error) {
	cmd, err := p.command(bed.ctx, args)
	if err != nil {
		return nil, err
	}
	b, err := cmd.Output()
	out := strings.Split(string(b), "\n")
	slices.Sort(out)
	return out, err
}

// job is a command that goes on.
type job struct {
	cmd *exec.Cmd
	out string // a file
}

func (p *project) background(args []string) ([]string, error) {
	cmd, err := p.command(bed.ctx, args[1:])
	if err != nil {
		return nil, err
	}
	j := &job{cmd: cmd, out: filepath.Join(p.dir, "job-"+args[0])}
	f, err := os.Create(j.out)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	cmd.Stdout, cmd.Stderr = f, f
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	p.jobs[args[0]] = j
	return nil, nil
}

func (p *project) said(args []string) ([]string, error) {
	b, err := os.ReadFile(p.jobs[args[0]].out)
	return []string{string(b)}, err
}

func (p *project) stop(args []string) ([]string, error) {
	j := p.jobs[args[0]]
	delete(p.jobs, args[0])
	j.cmd.Process.Signal(syscall.SIGINT)
	timer := time.AfterFunc(testbed.Slow(30*time.Second), func() { j.cmd.Process.Kill() })
	defer timer.Stop()
	j.cmd.Wait()
	return []string{fmt.Sprintf("[exit %d]", j.cmd.ProcessState.ExitCode())}, nil
}
