#!/bin/sh
# Unpacks nginx and what it needs out of Debian packages into a system that has busybox alone, and writes the manifest with nginx's version.
set -e
for p in *.deb; do
	dpkg-deb -x "$p" /
done
mkdir -p /run /var/log/nginx /var/lib/nginx /usr/share/nginx/html
rm -rf /usr/share/doc /usr/share/man /usr/share/lintian
cp nginx.conf /etc/nginx/nginx.conf
echo 'nginx in a brig' > /usr/share/nginx/html/index.html
version=$(nginx -v 2>&1)
cat > manifest.json <<END
{
  "name": "example.com/nginx",
  "labels": [{"name": "version", "value": "${version##*nginx/}"}],
  "app": {
    "exec": ["/usr/sbin/nginx", "-g", "daemon off;"],
    "user": "0",
    "group": "0",
    "environment": [{"name": "PATH", "value": "/usr/sbin:/usr/bin:/sbin:/bin"}],
    "ports": [{"name": "http", "protocol": "tcp", "port": 80}]
  }
}
END
