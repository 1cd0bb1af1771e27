package discovery

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"maps"
	"net/url"
	"regexp"
	"runtime"
	"slices"
	"strings"

	"github.com/appc/spec/schema/types"
	"golang.org/x/net/html"
	"golang.org/x/net/html/atom"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
)

// maxPage bounds a discovery page, in bytes; maxTags how many of its tags are used.
const (
	maxPage = 1 << 20
	maxTags = 16
)

// ParseName reads NAME[:VERSION][,LABEL=VALUE…], as appc tools write images.
func ParseName(s string) (brig.ACIName, error) {
	bad := func(format string, args ...any) (brig.ACIName, error) {
		return brig.ACIName{}, errs.Wrap(errs.New(errs.Invalid, format, args...), "%q is no ACI name with labels", s)
	}
	head, rest, more := strings.Cut(s, ",")
	name, version, versioned := strings.Cut(head, ":")
	if _, err := types.NewACIdentifier(name); err != nil {
		return bad("%w", err)
	}
	for _, c := range strings.Split(name, "/") {
		if strings.Trim(c, ".") == "" { // the specification's pattern lets them pass
			return bad("it has an empty component, or one of dots")
		}
	}
	if strings.HasPrefix(version, "//") {
		return bad("it looks like a URL")
	}
	out := brig.ACIName{Name: name, Labels: map[string]string{}}
	if versioned {
		if version == "" {
			return bad("the version is empty")
		}
		out.Labels["version"] = version
	}
	if !more {
		return out, nil
	}
	for _, l := range strings.Split(rest, ",") {
		k, v, ok := strings.Cut(l, "=")
		if _, err := types.NewACIdentifier(k); err != nil || !ok || v == "" {
			return bad("%q is no LABEL=VALUE", l)
		}
		if _, twice := out.Labels[k]; twice || k == "name" {
			return bad("the label %s is given twice, or is the name", k)
		}
		out.Labels[k] = v
	}
	return out, nil
}

// Defaults fills in the labels os and arch of this machine, in appc's words, and the version latest: what the templates need.
func Defaults(n brig.ACIName) brig.ACIName {
	labels := map[string]string{"version": "latest", "os": runtime.GOOS, "arch": runtime.GOARCH}
	if os, arch, err := types.ToAppcOSArch(runtime.GOOS, runtime.GOARCH, ""); err == nil {
		labels["os"], labels["arch"] = os, arch
	}
	maps.Copy(labels, n.Labels)
	return brig.ACIName{Name: n.Name, Labels: labels}
}

// Locate finds where an ACI may be: at https://NAME-VERSION-OS-ARCH.aci if something is there (simple discovery), else where the
// ac-discovery meta tags of https://NAME or of one of its parents say. NotFound, with all that was tried: nowhere.
func (c *Client) Locate(ctx context.Context, n brig.ACIName, insecure bool) ([]brig.ACIEndpoint, error) {
	n = Defaults(n)
	var tried []error
	for _, scheme := range schemes(insecure) {
		e, _ := render(scheme+"://{name}-{version}-{os}-{arch}.{ext}", n)
		err := c.probe(ctx, e.ACI, insecure)
		if err == nil {
			return []brig.ACIEndpoint{e}, nil
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		tried = append(tried, err)
	}
	var found []brig.ACIEndpoint
	err := c.walk(ctx, n.Name, insecure, func(tags []tag) bool {
		for _, t := range tags {
			if t.kind != "ac-discovery" {
				continue
			}
			e, ok := render(t.value, n)
			if _, err := checkURL(e.ACI, insecure); ok && err == nil {
				found = append(found, e)
			}
		}
		return len(found) > 0
	})
	if err != nil {
		return nil, errs.As(kindOf(err), errs.Wrap(errors.Join(append(tried, err)...), "discover %s", n.Name))
	}
	return found, nil
}

// KeyURLs finds where the keys for a prefix of names are, by the ac-discovery-pubkeys meta tags. NotFound: nowhere.
func (c *Client) KeyURLs(ctx context.Context, prefix string, insecure bool) ([]string, error) {
	if _, err := types.NewACIdentifier(prefix); err != nil {
		return nil, errs.New(errs.Invalid, "%q is no prefix of ACI names: %w", prefix, err)
	}
	var found []string
	err := c.walk(ctx, prefix, insecure, func(tags []tag) bool {
		for _, t := range tags {
			if _, err := checkURL(t.value, insecure); t.kind == "ac-discovery-pubkeys" && err == nil {
				found = append(found, t.value)
			}
		}
		return len(found) > 0
	})
	if err != nil {
		return nil, errs.As(kindOf(err), errs.Wrap(err, "discover the keys of %s", prefix))
	}
	return slices.Compact(found), nil
}

func kindOf(err error) errs.Kind { return cmp.Or(errs.KindOf(err), errs.NotFound) }

// schemes are what to try, in order.
func schemes(insecure bool) []string {
	if insecure {
		return []string{"https", "http"}
	}
	return []string{"https"}
}

// probe asks whether something that is no web page is at u.
func (c *Client) probe(ctx context.Context, u string, insecure bool) error {
	body, _, err := c.Open(ctx, u, insecure, 1<<62)
	if err != nil {
		return err
	}
	defer body.Close()
	if isPage(body.(*watched).resp.Header) {
		return errs.New(errs.NotFound, "Get %q: there is a web page", u)
	}
	return nil
}

// walk asks the discovery URLs of name and of its parents until use is content with the tags whose prefix matches name. Discovery.md
// goes on after a 4xx and after a page without tags; so does this after a failure to connect, since a host that gives keys for a name
// may not serve the path.
func (c *Client) walk(ctx context.Context, name string, insecure bool, use func([]tag) bool) error {
	var tried []error
	for at := name; ; {
		for _, scheme := range schemes(insecure) {
			u := scheme + "://" + at + "?ac-discovery=1"
			page, err := c.get(ctx, u, insecure, maxPage)
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if err == nil && use(metaTags(page, name)) {
				return nil
			}
			if err == nil {
				err = errs.New(errs.NotFound, "Get %q: the page has no meta tag for it", u)
			}
			tried = append(tried, err)
		}
		i := strings.LastIndexByte(at, '/')
		if i < 0 {
			return worst(tried)
		}
		at = at[:i]
	}
}

// worst joins errors; if any is about reaching a server, that is the kind.
func worst(tried []error) error {
	kind := errs.NotFound
	for _, err := range tried {
		if errs.Is(err, errs.Unavailable) {
			kind = errs.Unavailable
		}
	}
	return errs.As(kind, errors.Join(tried...))
}

// A tag is one meta tag of discovery.
type tag struct{ kind, value string }

// metaTags reads the tags of a page whose prefix matches name.
func metaTags(page []byte, name string) (out []tag) {
	z := html.NewTokenizer(bytes.NewReader(page))
	for len(out) < maxTags {
		switch z.Next() {
		case html.ErrorToken:
			return out
		case html.StartTagToken, html.SelfClosingTagToken:
			t := z.Token()
			if t.DataAtom != atom.Meta {
				continue
			}
			var kind, content string
			for _, a := range t.Attr {
				switch a.Key {
				case "name":
					kind = a.Val
				case "content":
					content = a.Val
				}
			}
			f := strings.Fields(content)
			if strings.HasPrefix(kind, "ac-discovery") && len(f) == 2 && within(f[0], name) {
				out = append(out, tag{kind, f[1]})
			}
		}
	}
	return out
}

var variable = regexp.MustCompile(`\{[^}]*\}`)

// render fills a template in. False: it has no {ext}, or a variable that no label gives. Values are escaped, so that a label can't lead to another host
// or path; the name's slashes stay.
func render(template string, n brig.ACIName) (brig.ACIEndpoint, bool) {
	ok := strings.Contains(template, "{ext}")
	fill := func(ext string) string {
		return variable.ReplaceAllStringFunc(template, func(v string) string {
			switch key := v[1 : len(v)-1]; key {
			case "name":
				return n.Name
			case "ext":
				return ext
			default:
				value, has := n.Labels[key]
				ok = ok && has
				return url.PathEscape(value)
			}
		})
	}
	return brig.ACIEndpoint{ACI: fill("aci"), Signature: fill("aci.asc")}, ok
}
