package logopts

import (
	"encoding/json"
	"regexp"
	"strings"
	"text/template"

	"github.com/brigd/brig/internal/brig"
)

// Container is what tags and attributes may say of a container. The names are those that dockerd's tag templates know.
type Container struct {
	ContainerID, ContainerName, ContainerImageID, ContainerImageName string
	ContainerEntrypoint                                              string
	ContainerArgs                                                    []string
	ContainerEnv                                                     []string
	ContainerLabels                                                  map[string]string
	DaemonName                                                       string
}

// Of describes a container. Command is its complete argument list.
func Of(c *brig.Container) Container {
	out := Container{
		ContainerID: string(c.ID), ContainerName: "/" + c.Name, ContainerImageID: string(c.Image), ContainerImageName: c.Spec.Image,
		ContainerEnv: c.Spec.Env, ContainerLabels: c.Spec.Labels, DaemonName: "docker",
	}
	if all := append(append([]string{}, c.Spec.Entrypoint...), c.Spec.Cmd...); len(all) > 0 {
		out.ContainerEntrypoint, out.ContainerArgs = all[0], all[1:]
	}
	return out
}

// ID is the short one.
func (c Container) ID() string { return short(c.ContainerID) }

// FullID is the whole one.
func (c Container) FullID() string { return c.ContainerID }

// Name has no slash in front.
func (c Container) Name() string { return strings.TrimPrefix(c.ContainerName, "/") }

// ImageID is the short one, without its algorithm.
func (c Container) ImageID() string { return short(strings.TrimPrefix(c.ContainerImageID, "sha256:")) }

// ImageFullID is the whole one.
func (c Container) ImageFullID() string { return c.ContainerImageID }

// ImageName is what the container was made of, as the request named it.
func (c Container) ImageName() string { return c.ContainerImageName }

// Command is entrypoint and arguments in one line.
func (c Container) Command() string {
	return strings.Join(append([]string{c.ContainerEntrypoint}, c.ContainerArgs...), " ")
}

func short(id string) string { return id[:min(12, len(id))] }

// functions are those of docker's own templates that make sense on one value.
func functions() template.FuncMap {
	return template.FuncMap{
		"json":  func(v any) string { b, _ := json.Marshal(v); return string(b) },
		"split": strings.Split, "join": strings.Join, "lower": strings.ToLower, "upper": strings.ToUpper,
		"truncate": func(s string, n int) string { return s[:min(max(n, 0), len(s))] },
	}
}

// tag executes the template text, or def if it is empty.
func (c Container) tag(text, def string) (string, error) {
	if text == "" {
		text = def
	}
	if !strings.Contains(text, "{{") {
		return text, nil
	}
	t, err := template.New("log-tag").Funcs(functions()).Parse(text)
	if err != nil {
		return "", err
	}
	var b strings.Builder
	err = t.Execute(&b, c)
	return b.String(), err
}

// attributes is the JSON object of what the options labels, labels-regex, env, env-regex and tag choose; "": nothing.
func attributes(o map[string]string, of Container) (string, error) {
	out := map[string]string{}
	env := map[string]string{}
	for _, e := range of.ContainerEnv {
		if k, v, ok := strings.Cut(e, "="); ok {
			env[k] = v
		}
	}
	if err := choose(out, of.ContainerLabels, o["labels"], o["labels-regex"]); err != nil {
		return "", err
	}
	if err := choose(out, env, o["env"], o["env-regex"]); err != nil {
		return "", err
	}
	tag, err := of.tag(o["tag"], "")
	if err != nil {
		return "", err
	}
	if tag != "" {
		out["tag"] = tag
	}
	if len(out) == 0 {
		return "", nil
	}
	b, err := json.Marshal(out)
	return string(b), err
}

// choose copies the values that are named in the comma-separated names, or whose names match pattern.
func choose(out, from map[string]string, names, pattern string) error {
	for name := range strings.SplitSeq(names, ",") {
		if v, ok := from[name]; ok {
			out[name] = v
		}
	}
	if pattern == "" {
		return nil
	}
	re, err := regexp.Compile(pattern)
	if err != nil {
		return err
	}
	for k, v := range from {
		if re.MatchString(k) {
			out[k] = v
		}
	}
	return nil
}
