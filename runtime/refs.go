package runtime

import (
	"slices"
	"strings"

	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
)

// References are kept normalized ("docker.io/library/x:1", "docker.io/library/x@sha256:…") and shown familiar ("x:1", "x@sha256:…").

// A parsedRef is what a person may have meant by the name of an image.
type parsedRef struct {
	named reference.Named // with tag or digest, never both; nil if given as a full ID
	id    brig.Digest     // given as 64 digits, with or without sha256:
	given string
}

// parseRef reads a name, an ID or a prefix of an ID; which of the two last a short word is, only the images can tell. As with dockerd,
// name:tag@digest means name@digest. Invalid, with distribution's words ("invalid reference format").
func parseRef(s string) (parsedRef, error) {
	ref, err := reference.ParseAnyReference(s)
	if err != nil {
		return parsedRef{}, errs.As(errs.Invalid, err)
	}
	named, ok := ref.(reference.Named)
	if !ok {
		d, err := brig.ParseDigest(ref.String())
		return parsedRef{id: d, given: s}, err
	}
	named, err = single(named)
	return parsedRef{named: named, given: s}, err
}

// single gives a reference exactly one of tag and digest: the digest if there is one, latest if there is neither.
func single(named reference.Named) (reference.Named, error) {
	c, ok := named.(reference.Canonical)
	if !ok {
		return reference.TagNameOnly(named), nil
	}
	if c.Digest().Algorithm() != digest.SHA256 {
		return nil, errs.New(errs.Invalid, "invalid reference format: unsupported digest algorithm %s", c.Digest().Algorithm())
	}
	d, err := reference.WithDigest(reference.TrimNamed(named), c.Digest())
	return d, errs.As(errs.Invalid, err)
}

// missing is dockerd's error for a reference that leads to no image.
func (p parsedRef) missing() error {
	if p.named == nil {
		return errs.New(errs.NotFound, "No such image: %s", p.id)
	}
	return errs.New(errs.NotFound, "No such image: %s", reference.FamiliarString(p.named))
}

// pullRef makes the normalized reference of a pull request; tag may be a digest, and the name may hold what the tag doesn't say.
func pullRef(name, tag string) (reference.Named, error) {
	named, err := reference.ParseNormalizedNamed(name)
	if err != nil {
		return nil, errs.As(errs.Invalid, err)
	}
	if tag == "" {
		return single(named)
	}
	if d, err := digest.Parse(tag); err == nil {
		named, err = reference.WithDigest(reference.TrimNamed(named), d)
		if err != nil {
			return nil, errs.As(errs.Invalid, err)
		}
		return single(named)
	}
	named, err = reference.WithTag(reference.TrimNamed(named), tag)
	return named, errs.As(errs.Invalid, err)
}

// tagRef makes the normalized reference of docker tag. Invalid as dockerd: a digest can't be given, nor the name sha256.
func tagRef(repo, tag string) (reference.Named, error) {
	named, err := reference.ParseNormalizedNamed(repo)
	if err != nil {
		return nil, errs.As(errs.Invalid, err)
	}
	if _, ok := named.(reference.Digested); ok {
		return nil, errs.New(errs.Invalid, "cannot import digest reference")
	}
	if tag != "" {
		if named, err = reference.WithTag(named, tag); err != nil {
			return nil, errs.As(errs.Invalid, err)
		}
	}
	if reference.FamiliarName(named) == string(digest.Canonical) {
		return nil, errs.New(errs.Invalid, "refusing to create an ambiguous tag using digest algorithm as name")
	}
	return reference.TagNameOnly(named), nil
}

// digestRef is name@digest for the repository of named.
func digestRef(named reference.Named, d brig.Digest) string {
	return named.Name() + "@" + string(d)
}

// A refTable maps normalized references to images.
type refTable map[string]brig.Digest

// of returns the references of an image, sorted.
func (t refTable) of(id brig.Digest) []string {
	var out []string
	for ref, to := range t {
		if to == id {
			out = append(out, ref)
		}
	}
	slices.Sort(out)
	return out
}

// byImage returns all references, sorted, by image.
func (t refTable) byImage() map[brig.Digest][]string {
	out := map[brig.Digest][]string{}
	for ref, id := range t {
		out[id] = append(out[id], ref)
	}
	for _, refs := range out {
		slices.Sort(refs)
	}
	return out
}

// isDigestRef reports whether a normalized reference is name@digest.
func isDigestRef(ref string) bool { return strings.Contains(ref, "@") }

// refName returns a normalized reference's repository, with its domain.
func refName(ref string) string {
	if name, _, ok := strings.Cut(ref, "@"); ok {
		return name
	}
	return ref[:strings.LastIndexByte(ref, ':')]
}

// familiar shortens a normalized reference as Docker shows it.
func familiar(ref string) string {
	named, err := reference.ParseNormalizedNamed(ref)
	if err != nil {
		return ref
	}
	short := reference.FamiliarString(named)
	if again, err := reference.ParseNormalizedNamed(short); err != nil || again.String() != ref {
		return ref // "docker.io/example.com/x" without its host would be another repository
	}
	return short
}

// familiarSplit returns tags and digests among refs, each familiar and sorted.
func familiarSplit(refs []string) (tags, digests []string) {
	for _, r := range refs {
		if isDigestRef(r) {
			digests = append(digests, familiar(r))
		} else {
			tags = append(tags, familiar(r))
		}
	}
	slices.Sort(tags)
	slices.Sort(digests)
	return tags, digests
}

// isSingle reports whether refs, all of one image, are at most one tag and the digests of its repository: dockerd's rule for when removing
// the image by one name or by ID removes all of it.
func isSingle(refs []string) bool {
	if len(refs) <= 1 {
		return true
	}
	tags, names := 0, map[string]bool{}
	for _, r := range refs {
		if !isDigestRef(r) {
			tags++
		}
		names[refName(r)] = true
	}
	return tags <= 1 && len(names) == 1
}

// shortDigest is the first 12 digits, as Docker shows images and layers.
func shortDigest(d brig.Digest) string {
	h := d.Hex()
	return h[:min(12, len(h))]
}
