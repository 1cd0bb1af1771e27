package build

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/shell"

	"github.com/brigd/brig/internal/brig"
)

// proxies are the arguments that RUN sees without an ARG, and that leave no trace in the image unless there is one.
var proxies = []string{
	"HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "FTP_PROXY", "ftp_proxy", "NO_PROXY", "no_proxy", "ALL_PROXY", "all_proxy",
}

// args are a build's arguments, as one stage sees them. A nil value is an argument that was declared without one.
type args struct {
	given    map[string]*string // by the request; shared, never changed
	platform map[string]string  // TARGETPLATFORM …; shared, replaced and never changed
	meta     map[string]*string // of ARG before the first FROM
	allowed  map[string]*string // of this stage's ARG
	used     map[string]bool    // declared anywhere
}

func newArgs(given map[string]*string, host, target brig.Platform) *args {
	a := &args{given: given, platform: map[string]string{}, meta: map[string]*string{}, allowed: map[string]*string{}, used: map[string]bool{}}
	name(a.platform, "BUILD", host)
	name(a.platform, "TARGET", target)
	return a
}

func name(m map[string]string, prefix string, p brig.Platform) {
	m[prefix+"PLATFORM"] = p.String()
	m[prefix+"OS"], m[prefix+"ARCH"], m[prefix+"VARIANT"] = p.OS, p.Architecture, p.Variant
}

// aim has the stage be for p, which is that of its base where nobody asked for another.
func (a *args) aim(p brig.Platform) {
	a.platform = maps.Clone(a.platform)
	name(a.platform, "TARGET", p)
}

// stage returns the arguments at a stage's begin. What it declares is not seen by other stages.
func (a *args) stage() *args {
	return &args{given: a.given, platform: a.platform, meta: a.meta, allowed: map[string]*string{}, used: map[string]bool{}}
}

func (a *args) add(key string, value *string) {
	a.allowed[key], a.used[key] = value, true
}

// addMeta declares what stands before the first FROM; it may use what stands before it.
func (a *args) addMeta(x *instructions.ArgCommand, lex *shell.Lex) error {
	env := shell.EnvsFromSlice(a.globals())
	if err := x.Expand(func(word string) (string, error) {
		out, _, err := lex.ProcessWord(word, env)
		return out, err
	}); err != nil {
		return err
	}
	for _, kv := range x.Args {
		a.meta[kv.Key], a.used[kv.Key] = kv.Value, true
	}
	return nil
}

// value is what key stands for where it was declared with the value def.
func (a *args) value(key string, def *string) (string, bool) {
	if v := a.given[key]; v != nil {
		return *v, true
	}
	if def != nil {
		return *def, true
	}
	if v := a.meta[key]; v != nil {
		return *v, true
	}
	v, ok := a.platform[key]
	return v, ok
}

// globals lists NAME=VALUE of what FROM and ARG before it see.
func (a *args) globals() (env []string) {
	for k, v := range a.platform {
		env = append(env, k+"="+v)
	}
	return append(env, a.list(a.meta)...)
}

// env lists NAME=VALUE of what instructions of the stage see and config hasn't.
func (a *args) env(config []string) (env []string) {
	has := map[string]bool{}
	for _, kv := range config {
		k, _, _ := strings.Cut(kv, "=")
		has[k] = true
	}
	return slices.DeleteFunc(a.list(a.allowed), func(kv string) bool {
		k, _, _ := strings.Cut(kv, "=")
		return has[k]
	})
}

// list lists what of declared has a value, sorted; proxies that were given are always among it.
func (a *args) list(declared map[string]*string) (env []string) {
	keys := map[string]*string{}
	for _, k := range proxies {
		if a.given[k] != nil {
			keys[k] = nil
		}
	}
	maps.Copy(keys, declared)
	for k, def := range keys {
		if v, ok := a.value(k, def); ok {
			env = append(env, k+"="+v)
		}
	}
	slices.Sort(env)
	return env
}

// traces leaves of env what the image shows: not proxies without an ARG.
func (a *args) traces(env []string) (out []string) {
	for _, kv := range env {
		k, _, _ := strings.Cut(kv, "=")
		if _, declared := a.allowed[k]; declared || !slices.Contains(proxies, k) {
			out = append(out, kv)
		}
	}
	return out
}

// unused is dockerd's warning of arguments that were given and that no ARG has declared; used are those that stages have declared.
func (a *args) unused(used map[string]bool) string {
	var left []string
	for k := range a.given {
		if !used[k] && !a.used[k] && !slices.Contains(proxies, k) {
			left = append(left, k)
		}
	}
	if len(left) == 0 {
		return ""
	}
	slices.Sort(left)
	return fmt.Sprintf("[Warning] One or more build-args %v were not consumed\n", left)
}

// argText is what the history says of an ARG.
func argText(x *instructions.ArgCommand) string {
	text := "ARG "
	for i, kv := range x.Args {
		if i > 0 {
			text += " "
		}
		text += kv.Key
		if kv.Value != nil {
			text += "=" + *kv.Value
		}
	}
	return text
}
