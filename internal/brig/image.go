package brig

import "time"

// An Image is the record of one image. Exact config, manifest and layer bytes are blobs.
type Image struct {
	ID       Digest // sha256 of the exact config bytes, which are the blob of that name
	Manifest Digest // of the manifest it came with; "" if loaded without one
	Created  time.Time
	Platform Platform
	Size     int64 // bytes, uncompressed, all layers
	Layers   []Layer
	Config   ImageConfig // what containers need of the config
	ACI      ACI
	Pulled   time.Time // when it came into the store
	Tagged   time.Time // when it last got a name other than by a pull or load; zero: never
	Steps    []Step    `json:",omitempty"` // that made it on its base, if it was built here
}

// Chain returns the chain ID of the whole image; "" for one without layers.
func (i *Image) Chain() Digest {
	if len(i.Layers) == 0 {
		return ""
	}
	return i.Layers[len(i.Layers)-1].Chain
}

// Layer is one layer of an image.
type Layer struct {
	Diff  Digest     // of the uncompressed tar
	Chain Digest     // its chain ID, or of one that was built here a name that says nothing
	Blob  Descriptor // as pulled or loaded; no Digest: it was built here, and its bytes are made when somebody needs them
	Size  int64      // bytes, of the files it brings
	// Epoch is what no file's time in the tar of a layer that was built here is later than; nil: they are as they are.
	Epoch *time.Time `json:",omitempty"`
}

// Descriptor is an OCI content descriptor.
type Descriptor struct {
	MediaType string
	Digest    Digest
	Size      int64
}

// ACI is the image's App Container side.
type ACI struct {
	Name     string // appc name, as docker2aci derives it
	Manifest Digest // blob with the exact image manifest
	ID       string // "sha512-…" of the uncompressed flat ACI tar; "" until it has been computed
	Own      bool   `json:",omitempty"` // the image came as an ACI: Docker's config is a projection of the manifest, which may say more
}

// ImageConfig is the image config's execution part.
type ImageConfig struct {
	User          string
	Env           []string
	Entrypoint    []string
	Cmd           []string
	WorkingDir    string
	Volumes       []string
	Exposed       []Port
	Labels        map[string]string
	StopSignal    string
	Shell         []string
	OnBuild       []string
	Health        *HealthCheck
	ArgsEscaped   bool
	Author        string
	Comment       string
	DockerVersion string
}

// ImageInfo is an image with the names it has now.
type ImageInfo struct {
	Image
	Tags       []string // familiar name:tag, sorted
	Digests    []string // familiar name@sha256:…, sorted
	Containers int      // that use it
}

// History is one line of docker history, newest first in lists.
type History struct {
	ID        string // image ID for the newest, else "<missing>"
	Created   time.Time
	CreatedBy string
	Comment   string
	Size      int64
	Tags      []string
}

// ImageDeleted is one line of docker rmi: one of the two is set.
type ImageDeleted struct{ Untagged, Deleted string }

// Progress is one line of a pull's, load's or push's report; dockerapi makes it a Docker JSON message.
type Progress struct {
	ID             string  // layer's short digest or tag; "" for the whole
	Status         string  // in Docker's words ("Downloading", "Pull complete")
	Current, Total int64   // bytes; both 0: no bar
	Stream         string  // instead of Status: text as is (load)
	Pushed         *Pushed // instead of Status: what a push has stored
}

// Auth is a registry credential from X-Registry-Auth; zero is anonymous.
type Auth struct{ Username, Password, IdentityToken, RegistryToken string }

// PullRequest asks for one image, or with All for every tag of a repository.
type PullRequest struct {
	Name     string // as given, without tag
	Tag      string // tag or digest; "": latest
	All      bool
	Platform string
	Auth     Auth
}

// PushRequest asks for one tag of a repository to be pushed, or with an empty Tag for all that it has here.
type PushRequest struct {
	Name, Tag string
	Platform  string // that the image must be for; "": any
	Auth      Auth
}

// ImportRequest names the image that a tar shall become. Repository "": it has no name.
type ImportRequest struct {
	Repository, Tag string
	Platform        string // "": the host's
	Message         string
	Source          string   // that the history names; "": "-"
	Changes         []string // Dockerfile instructions
}

// CommitRequest asks for an image of a container. Repository "": it has no name.
type CommitRequest struct {
	Container       string
	Repository, Tag string
	Author, Comment string
	Pause           bool
	Changes         []string     // Dockerfile instructions
	Config          *ImageConfig // instead of the container's own, which fills in what it leaves open; nil: none
}

// NewImage says what an image that brig makes itself shall be. Repository "": it has no name.
type NewImage struct {
	Parent          Digest // image whose layers are beneath; "": none
	Platform        Platform
	Config          ImageConfig
	Repository, Tag string
	Author, Comment string
	CreatedBy       string // of the history's new entry
}

// Pushed names a manifest that a push has stored in a registry.
type Pushed struct {
	Tag    string
	Digest Digest
	Size   int64 // of the manifest, in bytes
}

// Applied is what the store knows of a layer after it has applied it.
type Applied struct {
	Diff Digest // sha256 of the bytes read: the uncompressed tar, to its very end
	Size int64  // bytes of regular files in it
}

// Live names all that records still know, so that a sweep can remove the rest.
type Live struct {
	Chains     []Digest
	Containers []RID
	Volumes    []RID
}

// Remote is a resolved image in a registry.
type Remote struct {
	Ref      string
	Auth     Auth
	Digest   Digest // of what the reference named: an index or a manifest; docker shows it
	Manifest []byte // exact bytes of the platform's manifest
	Config   []byte // exact bytes
	Layers   []Descriptor
}

// Distribution is what a registry has under a name: an index or a manifest, and the platforms that it is for.
type Distribution struct {
	Descriptor Descriptor
	Platforms  []Platform
}

// Document is a parsed image config.
type Document struct {
	Created  string // RFC 3339 or ""
	Platform Platform
	Diffs    []Digest
	Config   ImageConfig
	History  []HistoryEntry
}

// HistoryEntry is one entry of a config's history, oldest first.
type HistoryEntry struct {
	Created, CreatedBy, Author, Comment string
	Empty                               bool
}
