// docker2aci-oracle converts one image with docker2aci 0.17.2, for comparison: squashed and uncompressed, into the directory DIR.
// It prints the path of the ACI.
//
//	docker2aci-oracle DIR docker://127.0.0.1:PORT/repository:tag
//	docker2aci-oracle DIR archive.tar
package main

import (
	"fmt"
	"io"
	"log"
	"os"
	"strings"

	docker2aci "github.com/appc/docker2aci/lib"
	"github.com/appc/docker2aci/lib/common"
	d2alog "github.com/appc/docker2aci/pkg/log"
)

func main() {
	if len(os.Args) != 3 {
		log.Fatal("usage: docker2aci-oracle DIR docker://REGISTRY/IMAGE | FILE")
	}
	paths, err := convert(os.Args[1], os.Args[2])
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(strings.Join(paths, "\n"))
}

// convert returns the paths of what docker2aci wrote; it is one, since it squashes.
func convert(dir, image string) ([]string, error) {
	c := docker2aci.CommonConfig{
		Squash: true, OutputDir: dir, TmpDir: dir, Compression: common.NoCompression,
		Info: d2alog.NewStdLogger(os.Stderr), Debug: d2alog.NewStdLogger(io.Discard),
	}
	if name, ok := strings.CutPrefix(image, "docker://"); ok {
		return docker2aci.ConvertRemoteRepo(name, docker2aci.RemoteConfig{CommonConfig: c, Insecure: common.InsecureConfig{SkipVerify: true, AllowHTTP: true}})
	}
	return docker2aci.ConvertSavedFile(image, docker2aci.FileConfig{CommonConfig: c})
}
