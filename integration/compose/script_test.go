package compose

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/brigd/brig/integration/internal/testbed"
)

// patience bounds each command, and each wait for what a line with ~ expects.
var patience = testbed.Slow(90 * time.Second)

// A step of a script is a line "$ COMMAND ARGS", and in the lines after it what the command has to print. "$ ~ COMMAND" is tried again until it
// prints that. Lines with # are for the reader; "#v1" at the top says that docker-compose 1.29 must give the same,
// "#brig: WHY" that it is for brig alone, "#freebsd: WHY" that FreeBSD leaves it out; before a step that says so of the step.
//
// In a command, $REG is the registry, $DIR the project's folder, and @web or @web.2 the id of a container of that service. Quotes group words. A line "brig| TEXT" or
// "dockerd| TEXT" is expected of that server alone, "linux| TEXT" or "freebsd| TEXT" on that system; why they differ stands above the step.
// Of what a command prints, blank lines are left out and ids are masked; where it fails, its exit code and its last line on stderr follow.
type step struct {
	lead  []string // comments and blank lines before it
	line  string
	retry bool
	want  []string
}

func parse(text string) (steps []step, rest []string) {
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\n")
		switch {
		case strings.HasPrefix(line, "$ "):
			s := step{lead: rest, line: line[2:]}
			s.line, s.retry = strings.CutPrefix(s.line, "~ ")
			steps, rest = append(steps, s), nil
		case len(steps) == 0 || len(rest) > 0 || line == "" || strings.HasPrefix(line, "#"):
			rest = append(rest, line)
		default:
			steps[len(steps)-1].want = append(steps[len(steps)-1].want, line)
		}
	}
	return steps, rest
}

func format(steps []step, rest []string) string {
	var b strings.Builder
	for _, s := range steps {
		for _, l := range s.lead {
			b.WriteString(l + "\n")
		}
		b.WriteString("$ ")
		if s.retry {
			b.WriteString("~ ")
		}
		b.WriteString(s.line + "\n")
		for _, l := range s.want {
			b.WriteString(l + "\n")
		}
	}
	for _, l := range rest {
		b.WriteString(l + "\n")
	}
	return b.String()
}

// project is one run of a script.
type project struct {
	t     *testing.T
	name  string
	dir   string // a copy of the project's folder
	v1    bool   // docker-compose 1.29, not docker compose
	env   []string
	marks map[string]string // containers by their names, as of the last mark
	jobs  map[string]*job
}

// play runs the script of a folder of testdata.
func play(t *testing.T, folder string, v1 bool) {
	text, err := os.ReadFile(filepath.Join(folder, "script"))
	if err != nil {
		t.Fatal(err)
	}
	p := &project{t: t, name: filepath.Base(folder), dir: filepath.Join(bed.dir, filepath.Base(folder)), v1: v1, jobs: map[string]*job{},
		env: []string{"COMPOSE_ANSI=never", "COMPOSE_PROGRESS=plain", "COMPOSE_MENU=false", "REG=" + bed.reg}}
	if v1 {
		out, err := exec.Command("/usr/bin/docker-compose", "version", "--short").Output()
		if err != nil || !strings.HasPrefix(string(out), "1.") {
			t.Skipf("no docker-compose 1 on this host: it says %q (%v)", out, err)
		}
		p.name, p.dir = p.name+"v1", p.dir+"v1"
	}
	p.env = append(p.env, "COMPOSE_PROJECT_NAME="+p.name) // with -p, compose would not read the file for all that it does
	if err := os.CopyFS(p.dir, os.DirFS(folder)); err != nil {
		t.Fatal(err)
	}
	defer p.clean()
	steps, rest := parse(string(text))
	recorded := os.Getenv("BRIG_RECORD") != ""
	for i := range steps {
		s := &steps[i]
		if why := leftOut(s.lead); why != "" {
			t.Logf("left out: $ %s: %s", s.line, why)
			continue
		}
		if !recorded {
			s.want = of(s.want)
		}
		got, said := p.try(*s)
		if recorded {
			if strings.Join(of(s.want), "\n") != strings.Join(got, "\n") {
				s.want = got
			}
			continue
		}
		if strings.Join(got, "\n") != strings.Join(s.want, "\n") {
			t.Fatalf("$ %s\n%s\nwant:\n%s\nstderr: %s", s.line, strings.Join(got, "\n"), strings.Join(s.want, "\n"), said)
		}
	}
	if recorded && !v1 && !t.Failed() {
		if err := os.WriteFile(filepath.Join(folder, "script"), []byte(format(steps, rest)), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// leftOut is why this system leaves out what has these lines before it, if it does.
func leftOut(lead []string) string {
	for _, line := range lead {
		if why, ok := strings.CutPrefix(line, "#"+runtime.GOOS+": "); ok {
			return why
		}
	}
	return ""
}

// of leaves out what is expected of the other server or system.
func of(want []string) (out []string) {
	is := map[string]bool{"brig": bed.server.Owned, "dockerd": !bed.server.Owned, "linux": runtime.GOOS == "linux", "freebsd": runtime.GOOS == "freebsd"}
	for _, line := range want {
		whose, text, _ := strings.Cut(line, "| ")
		here, marked := is[whose]
		if !marked {
			text = line
		}
		if here || !marked {
			out = append(out, text)
		}
	}
	return out
}

// try does one step. While it records, a step that is tried again counts once it has given the same for two seconds.
func (p *project) try(s step) (got []string, said string) {
	deadline, same := time.Now().Add(patience/2), time.Now()
	recording := os.Getenv("BRIG_RECORD") != ""
	for {
		now, said := p.do(s.line)
		if strings.Join(now, "\n") != strings.Join(got, "\n") {
			same = time.Now()
		}
		got = now
		if !s.retry || time.Now().After(deadline) || !recording && strings.Join(got, "\n") == strings.Join(s.want, "\n") || recording && time.Since(same) > 4*time.Second {
			return got, said
		}
		time.Sleep(100 * time.Millisecond)
	}
}

var ids = regexp.MustCompile(`(sha256:)?\b[0-9a-f]{64}\b|\b[0-9a-f]{12}\b`)

// chosen are the addresses that a server gives by itself; those in the files begin with 10.
var chosen = regexp.MustCompile(`\b(172\.(1[6-9]|2[0-9]|3[01])|192\.168)\.[0-9]+\.[0-9]+\b`)

// lines are what is compared of a text.
func (p *project) lines(text string) (out []string) {
	text = strings.NewReplacer(bed.reg, "REG", p.dir, "DIR", "\r", "").Replace(text)
	text = regexp.MustCompile("\x1b\\[[0-9;]*[A-Za-z]").ReplaceAllString(text, "")
	text = ids.ReplaceAllString(text, "ID")
	text = chosen.ReplaceAllString(text, "ADDRESS")
	for line := range strings.Lines(text) {
		if line = strings.TrimRight(line, " \t\r\n"); line != "" {
			out = append(out, line)
		}
	}
	return out
}

// words splits a line at spaces, but not within quotes.
func words(line string) (out []string) {
	for _, m := range regexp.MustCompile(`(?:'[^']*'|"[^"]*"|[^\s'"])+`).FindAllString(line, -1) {
		out = append(out, regexp.MustCompile(`'([^']*)'|"([^"]*)"`).ReplaceAllString(m, "$1$2"))
	}
	return out
}

var container = regexp.MustCompile(`@[a-z]+(\.[0-9]+)?`)

var placed = regexp.MustCompile(`\$(REG|DIR|P)([^A-Z]|$)`)

// do runs a line and gives what it printed, as it is compared, and all of its stderr.
func (p *project) do(line string) (out []string, said string) {
	line = placed.ReplaceAllStringFunc(line, func(word string) string {
		rest := strings.TrimLeft(word, "$REGDIP")
		return map[string]string{"$REG": bed.reg, "$DIR": p.dir, "$P": p.name}[strings.TrimSuffix(word, rest)] + rest
	})
	args := words(line)
	if do, ok := builtins[args[0]]; ok {
		out, err := do(p, args[1:])
		if err != nil {
			out = append(out, "! "+err.Error())
		}
		return p.lines(strings.Join(out, "\n")), ""
	}
	ctx, cancel := context.WithTimeout(bed.ctx, patience)
	defer cancel()
	cmd, err := p.command(ctx, args)
	if err != nil {
		return []string{"! " + err.Error()}, ""
	}
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err = cmd.Run()
	if ctx.Err() != nil {
		p.t.Fatalf("$ %s\ntook longer than %v\n%s%s", line, patience, stdout.String(), stderr.String())
	}
	out = p.lines(stdout.String())
	if err != nil {
		out = append(out, fmt.Sprintf("[exit %d]", cmd.ProcessState.ExitCode()))
		e := slices.DeleteFunc(p.lines(stderr.String()), func(line string) bool { return line == "exit status 1" || strings.HasPrefix(line, " ") })
		if len(e) > 0 {
			out = append(out, "! "+e[len(e)-1])
		}
	}
	return out, stderr.String()
}

// command prepares compose or docker.
func (p *project) command(ctx context.Context, args []string) (cmd *exec.Cmd, err error) {
	args = append([]string{}, args...) // the caller's stay
	for i, a := range args {
		args[i] = container.ReplaceAllStringFunc(a, func(at string) string {
			id, e := p.id(at[1:])
			if e != nil {
				err = e
			}
			return id
		})
	}
	if err != nil {
		return nil, err
	}
	switch {
	case args[0] == "compose" && p.v1:
		cmd = bed.cli.Command(ctx)
		cmd.Args = append([]string{"docker-compose"}, args[1:]...)
		if cmd.Path, err = exec.LookPath("/usr/bin/docker-compose"); err != nil {
			return nil, err
		}
	case args[0] == "compose":
		cmd = bed.cli.Command(ctx, args...)
	case args[0] == "docker":
		cmd = bed.cli.Command(ctx, args[1:]...)
	default:
		return nil, fmt.Errorf("no command %s", args[0])
	}
	cmd.Dir, cmd.Env = p.dir, append(cmd.Env, p.env...)
	return cmd, nil
}

// clean takes the project down, whatever is left of it, and wants nothing to be left then.
func (p *project) clean() {
	for name := range p.jobs {
		p.do("stop " + name)
	}
	if p.t.Failed() {
		out, _ := p.do("states")
		p.t.Logf("containers at the end:\n%s", strings.Join(out, "\n"))
		for _, c := range p.containers() {
			r := bed.cli.Run(bed.ctx, nil, "logs", "--tail", "20", c.ID)
			p.t.Logf("log of %s:\n%s%s", p.display(c), r.Out, r.Err)
		}
	}
	_, said := p.do("compose --profile * down -v --remove-orphans -t 0")
	if p.v1 {
		_, said = p.do("compose down -v --remove-orphans -t 0")
	}
	if out, _ := p.do("left"); len(out) > 0 {
		p.t.Errorf("after down there is still:\n%s\n%s", strings.Join(out, "\n"), said)
	}
}
