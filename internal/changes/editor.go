package changes

import (
	"fmt"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/shell"
	"github.com/moby/sys/signal"

	"github.com/brigd/brig/internal/brig"
)

// DefaultShell runs the shell form of commands where an image names no other.
var DefaultShell = []string{"/bin/sh", "-c"}

// An Editor carries out instructions on a config of its own. It is for one goroutine.
type Editor struct {
	Config brig.ImageConfig
	lex    *shell.Lex
	cmdSet bool // by an instruction before
}

// NewEditor begins with a copy of c. escape is the Dockerfile's escape character.
func NewEditor(c brig.ImageConfig, escape rune) *Editor {
	return &Editor{Config: Detached(c), lex: shell.NewLex(escape)}
}

// Detached shares with c nothing that an Editor changes in place.
func Detached(c brig.ImageConfig) brig.ImageConfig {
	c.Env, c.OnBuild = slices.Clone(c.Env), slices.Clone(c.OnBuild)
	c.Volumes, c.Exposed = slices.Clone(c.Volumes), slices.Clone(c.Exposed)
	c.Labels = maps.Clone(c.Labels)
	return c
}

// Shell returns the command that runs a shell form.
func (e *Editor) Shell() []string {
	if len(e.Config.Shell) == 0 {
		return DefaultShell
	}
	return e.Config.Shell
}

// Expand replaces variables in cmd's words by those of the config and, where it hasn't them, of more (NAME=VALUE).
func (e *Editor) Expand(cmd instructions.Command, more []string) error {
	x, ok := cmd.(instructions.SupportsSingleWordExpansion)
	if !ok {
		return nil
	}
	return x.Expand(func(word string) (string, error) { return e.Word(word, more) })
}

// Word replaces variables in one word, as Expand.
func (e *Editor) Word(word string, more []string) (string, error) {
	out, _, err := e.lex.ProcessWord(word, e.env(more))
	return out, err
}

func (e *Editor) env(more []string) shell.EnvGetter {
	return shell.EnvsFromSlice(slices.Concat(more, e.Config.Env)) // the last one of a name counts
}

// Carry expands an instruction, as Expand, and carries it out. text is what the history of an image says of it, in Docker's form.
// An instruction that changes more than the config is refused.
func (e *Editor) Carry(cmd instructions.Command, more []string) (text string, err error) {
	if err := e.Expand(cmd, more); err != nil {
		return "", err
	}
	c := &e.Config
	switch x := cmd.(type) {
	case *instructions.CmdCommand:
		c.Cmd, c.ArgsEscaped = e.Argv(x.ShellDependantCmdLine), false
		e.cmdSet = e.cmdSet || len(x.CmdLine) > 0
		return fmt.Sprintf("CMD %q", c.Cmd), nil
	case *instructions.EntrypointCommand:
		c.Entrypoint = e.Argv(x.ShellDependantCmdLine)
		if !e.cmdSet {
			c.Cmd = nil // it was meant for the entrypoint of before
		}
		return fmt.Sprintf("ENTRYPOINT %q", c.Entrypoint), nil
	case *instructions.EnvCommand:
		for _, kv := range x.Env {
			e.setEnv(kv.Key, kv.Value)
		}
		return pairs("ENV", x.Env), nil
	case *instructions.ExposeCommand:
		return e.expose(x, more)
	case *instructions.HealthCheckCommand:
		return e.health(x), nil
	case *instructions.LabelCommand:
		if c.Labels == nil {
			c.Labels = map[string]string{}
		}
		for _, kv := range x.Labels {
			c.Labels[kv.Key] = kv.Value
		}
		return pairs("LABEL", x.Labels), nil
	case *instructions.MaintainerCommand:
		c.Author = x.Maintainer
		return "MAINTAINER " + x.Maintainer, nil
	case *instructions.OnbuildCommand:
		c.OnBuild = append(c.OnBuild, x.Expression)
		return "ONBUILD " + x.Expression, nil
	case *instructions.ShellCommand:
		c.Shell = slices.Clone(x.Shell)
		return fmt.Sprintf("SHELL %v", c.Shell), nil
	case *instructions.StopSignalCommand:
		c.StopSignal = x.Signal
		_, err := signal.ParseSignal(x.Signal)
		return "STOPSIGNAL " + x.Signal, err
	case *instructions.UserCommand:
		c.User = x.User
		return "USER " + x.User, nil
	case *instructions.VolumeCommand:
		return fmt.Sprintf("VOLUME %v", x.Volumes), e.volumes(x.Volumes)
	case *instructions.WorkdirCommand:
		err := e.workdir(x.Path)
		return "WORKDIR " + c.WorkingDir, err
	}
	return "", fmt.Errorf("%s is not a valid change command", strings.ToUpper(cmd.Name()))
}

func pairs(name string, list instructions.KeyValuePairs) string {
	for _, kv := range list {
		name += " " + kv.String()
	}
	return name
}

// Argv is an instruction's command; the shell form runs in the image's shell.
func (e *Editor) Argv(l instructions.ShellDependantCmdLine) []string {
	if !l.PrependShell {
		return slices.Clone(l.CmdLine)
	}
	return slices.Concat(e.Shell(), l.CmdLine)
}

func (e *Editor) setEnv(key, value string) {
	for i, kv := range e.Config.Env {
		if k, _, _ := strings.Cut(kv, "="); k == key {
			e.Config.Env[i] = key + "=" + value
			return
		}
	}
	e.Config.Env = append(e.Config.Env, key+"="+value)
}

// health takes from the check of before what the new one leaves open, but for the command: so do dockerd's builds.
func (e *Editor) health(x *instructions.HealthCheckCommand) string {
	h := brig.HealthCheck{Test: x.Health.Test, Interval: x.Health.Interval, Timeout: x.Health.Timeout, StartPeriod: x.Health.StartPeriod,
		StartInterval: x.Health.StartInterval, Retries: x.Health.Retries}
	text := healthText(h)
	if old := e.Config.Health; old != nil {
		h.Interval, h.Timeout = or(h.Interval, old.Interval), or(h.Timeout, old.Timeout)
		h.StartPeriod, h.StartInterval = or(h.StartPeriod, old.StartPeriod), or(h.StartInterval, old.StartInterval)
		h.Retries = or(h.Retries, old.Retries)
	}
	e.Config.Health = &h
	return text
}

func or[T comparable](a, b T) T {
	var zero T
	if a == zero {
		return b
	}
	return a
}

// healthText prints the fields that Docker's type had before there was a start interval, as long as there is none; Docker prints a number as a character.
func healthText(h brig.HealthCheck) string {
	text := fmt.Sprintf("HEALTHCHECK &{%q %q %q %q ", h.Test, h.Interval, h.Timeout, h.StartPeriod)
	if h.StartInterval != 0 {
		text += fmt.Sprintf("%q ", h.StartInterval)
	}
	return text + fmt.Sprintf("%q}", rune(h.Retries))
}

func (e *Editor) expose(x *instructions.ExposeCommand, more []string) (string, error) {
	var words []string
	for _, s := range x.Ports {
		w, err := e.lex.ProcessWords(s, e.env(more))
		if err != nil {
			return "", err
		}
		words = append(words, w...)
	}
	seen := map[brig.Port]bool{}
	for _, p := range e.Config.Exposed {
		seen[p] = true
	}
	for _, w := range words {
		ports, err := portRange(w)
		if err != nil {
			return "", err
		}
		for _, p := range ports {
			if !seen[p] {
				seen[p] = true
				e.Config.Exposed = append(e.Config.Exposed, p)
			}
		}
	}
	return "EXPOSE " + strings.Join(words, " "), nil
}

// portRange reads port[-port][/proto].
func portRange(s string) ([]brig.Port, error) {
	numbers, proto, ok := strings.Cut(strings.ToLower(s), "/")
	if !ok {
		proto = "tcp"
	}
	if !slices.Contains([]string{"tcp", "udp", "sctp"}, proto) {
		return nil, fmt.Errorf("invalid proto: %s", proto)
	}
	from, to, ranged := strings.Cut(numbers, "-")
	if !ranged {
		to = from
	}
	first, err := brig.ParsePort(from + "/" + proto)
	if err != nil {
		return nil, fmt.Errorf("invalid containerPort: %s", s)
	}
	last, err := strconv.ParseUint(to, 10, 16)
	if err != nil || uint16(last) < first.Number {
		return nil, fmt.Errorf("invalid containerPort: %s", s)
	}
	var out []brig.Port
	for n := int(first.Number); n <= int(last); n++ {
		out = append(out, brig.Port{Number: uint16(n), Proto: first.Proto})
	}
	return out, nil
}

func (e *Editor) volumes(paths []string) error {
	for _, p := range paths {
		if strings.TrimSpace(p) == "" {
			return fmt.Errorf("VOLUME specified can not be an empty string")
		}
		if !slices.Contains(e.Config.Volumes, p) {
			e.Config.Volumes = append(e.Config.Volumes, p)
		}
	}
	slices.Sort(e.Config.Volumes)
	return nil
}

// workdir takes a relative path as beneath the directory of before.
func (e *Editor) workdir(p string) error {
	if p == "" {
		return fmt.Errorf("cannot normalize nothing")
	}
	if !path.IsAbs(p) {
		p = path.Join("/", e.Config.WorkingDir, p)
	}
	e.Config.WorkingDir = p
	return nil
}

// Text replaces variables in a whole text, as Expand, and leaves its quotes as they are: a heredoc's.
func (e *Editor) Text(text string, more []string) (string, error) {
	lex := shell.NewLex('\\')
	lex.SkipProcessQuotes = true
	out, _, err := lex.ProcessWord(text, e.env(more))
	return out, err
}
