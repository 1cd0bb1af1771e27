package convert

import (
	"archive/tar"
	"context"
	"encoding/json"
	"io"
	"maps"
	"slices"
	"time"
	"unicode/utf8"

	"github.com/appc/spec/schema"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
	"github.com/brigd/brig/internal/jsondoc"
	"github.com/brigd/brig/internal/podspec"
)

// nameValue is a label or an annotation.
type nameValue struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// ChildManifest completes the image manifest of an image that was built on another one, parent, and checks it: acKind and acVersion, the annotations
// timestamp and created, the labels os and arch, which the parent's replace unless they are there (an empty one asks for none), the dependency on the
// parent, and whitelist, the paths that are to be seen (nil: all). What else is in it stays. The result depends on nothing else.
func (c *Converter) ChildManifest(doc []byte, parent brig.ACIDependency, made time.Time, whitelist []string) ([]byte, error) {
	var m map[string]json.RawMessage
	err := jsondoc.Check(doc)
	if err == nil {
		err = json.Unmarshal(doc, &m)
	}
	if err != nil {
		return nil, errs.As(errs.Invalid, err)
	}
	for _, field := range []string{"dependencies", "pathWhitelist"} {
		var list []json.RawMessage
		if raw, ok := m[field]; ok && (json.Unmarshal(raw, &list) != nil || len(list) > 0) {
			return nil, errs.New(errs.Invalid, "it has %s: they are what the image was built on, and what it holds", field)
		}
	}
	e := editing{doc: m}
	e.absent("acKind", "ImageManifest")
	e.absent("acVersion", schema.AppContainerVersion.String())
	when := made.UTC().Format(time.RFC3339)
	e.list("annotations", func(list []nameValue) []nameValue {
		return withMissing(list, []nameValue{{"timestamp", when}, {"created", when}})
	})
	e.list("labels", func(list []nameValue) []nameValue {
		var of []nameValue
		for _, k := range []string{"os", "arch"} {
			if v := parent.Labels[k]; v != "" {
				of = append(of, nameValue{k, v})
			}
		}
		list = withMissing(list, of)
		return slices.DeleteFunc(list, func(l nameValue) bool { return (l.Name == "os" || l.Name == "arch") && l.Value == "" })
	})
	on := struct {
		Name   string      `json:"imageName"`
		ID     string      `json:"imageID"`
		Labels []nameValue `json:"labels,omitempty"`
	}{Name: parent.Name, ID: parent.ID}
	for _, k := range slices.Sorted(maps.Keys(parent.Labels)) {
		on.Labels = append(on.Labels, nameValue{k, parent.Labels[k]})
	}
	e.set("dependencies", []any{on})
	if delete(m, "pathWhitelist"); whitelist != nil {
		for _, p := range whitelist {
			if !utf8.ValidString(p) {
				return nil, errs.New(errs.Invalid, "the name of %q is no UTF-8: no manifest can hold it", p)
			}
		}
		e.set("pathWhitelist", whitelist)
	}
	if e.err != nil {
		return nil, errs.As(errs.Invalid, e.err)
	}
	out, err := json.Marshal(m)
	if err == nil {
		_, _, err = podspec.ParseImage(out)
	}
	return out, errs.As(errs.Invalid, err)
}

// editing changes a document's fields; the first error stays.
type editing struct {
	doc map[string]json.RawMessage
	err error
}

func (e *editing) set(field string, v any) {
	b, err := json.Marshal(v)
	if e.err == nil {
		e.err = err
	}
	e.doc[field] = b
}

func (e *editing) absent(field string, v any) {
	if _, ok := e.doc[field]; !ok {
		e.set(field, v)
	}
}

func (e *editing) list(field string, change func([]nameValue) []nameValue) {
	var list []nameValue
	if raw, ok := e.doc[field]; ok {
		if err := json.Unmarshal(raw, &list); err != nil && e.err == nil {
			e.err = errs.Wrap(err, "%s", field)
		}
	}
	if list = change(list); len(list) > 0 {
		e.set(field, list)
	} else {
		delete(e.doc, field)
	}
}

// withMissing adds those of more whose names list lacks.
func withMissing(list, more []nameValue) []nameValue {
	for _, x := range more {
		if !slices.ContainsFunc(list, func(have nameValue) bool { return have.Name == x.Name }) {
			list = append(list, x)
		}
	}
	return list
}

// WriteIncremental writes, uncompressed, the ACI that brings one layer to its dependencies: manifest as it is, and the layer without its whiteouts, for
// which the manifest's whitelist stands. The same layer and manifest always give the same bytes. The layer is opened twice.
func (c *Converter) WriteIncremental(ctx context.Context, w io.Writer, manifest []byte, l brig.ArchiveLayer) error {
	top := false
	err := c.eachEntry(ctx, l, func(h *tar.Header, _ io.Reader) error {
		top = top || cleanName(h.Name) == ""
		return nil
	})
	if err != nil {
		return err
	}
	tw := tar.NewWriter(w)
	if err := c.layerEntries(ctx, tw, l, manifest, top, nil); err != nil {
		return err
	}
	return tw.Close()
}

// ProjectACI makes the Docker config of an image with these layers, from the lowest up, whose ACI has this manifest and ID, and says under which names
// Docker knows it. by is what the history says of the topmost layer.
func (c *Converter) ProjectACI(manifest []byte, id, by string, diffs []brig.Digest) (config []byte, refs, warnings []string, err error) {
	im, err := parseACIManifest(manifest)
	if err != nil {
		return nil, nil, nil, err
	}
	layers := make([]brig.ArchiveLayer, len(diffs))
	for n, d := range diffs {
		layers[n].Diff = d
	}
	if config, warnings, err = configOf(im, id, by, layers); err == nil {
		refs, err = refsOf(im)
	}
	return config, refs, warnings, err
}
