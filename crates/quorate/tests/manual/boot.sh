#!/bin/bash
# Boots systemd, in namespaces of its own and over a copy-on-write view of this machine's files, with the unit of the manual and
# one node as the manual sets it up. What the node did there is in OUT/seen.
#   boot.sh QUORATE UNIT MODULE OUT        needs root, systemd, overlayfs
set -euo pipefail
export QUORATE=$1 UNIT=$2 MODULE=$3 OUT=$4

# The machine: its own /dev, so that the unit's sandbox has devices to choose from, and nothing of ours in /run and /tmp.
inside() {
  set -euo pipefail
  mount --make-rprivate /
  ip link set lo up
  local room=$OUT/room root=$OUT/room/root
  mkdir "$room"
  mount -t tmpfs tmpfs "$room"
  mkdir "$room/upper" "$room/work" "$root"
  mount -t overlay overlay -o "lowerdir=/,upperdir=$room/upper,workdir=$room/work" "$root"
  for folder in tmp run var/tmp var/log; do mount -t tmpfs tmpfs "$root/$folder"; done
  mount -t tmpfs -o mode=755 tmpfs "$root/dev"
  mount -t proc proc "$root/proc"
  mount -t sysfs sysfs "$root/sys"
  mount -t cgroup2 none "$root/sys/fs/cgroup"
  while read -r name major minor; do mknod -m 666 "$root/dev/$name" c "$major" "$minor"; done <<<'null 1 3
zero 1 5
full 1 7
random 1 8
urandom 1 9
tty 5 0
ptmx 5 2'
  mkdir "$root/dev/pts" "$root/dev/shm" "$root/out"
  mount -t devpts devpts "$root/dev/pts"
  mount -t tmpfs tmpfs "$root/dev/shm"
  ln -s /proc/self/fd "$root/dev/fd"
  touch "$root/dev/console"
  mount --bind "$OUT" "$root/out"
  cp "$QUORATE" "$root/usr/local/bin/quorate"
  cp "$UNIT" "$root/etc/systemd/system/quorate.service"
  export -f set_up probe
  chroot "$root" /bin/bash -c set_up
  cd "$root"
  mkdir -p old
  pivot_root . old
  umount -l /old
  exec env -i container=other PATH=/usr/sbin:/usr/bin:/sbin:/bin /lib/systemd/systemd --system --unit=boot.target
}

# As `quorate manual cluster` has it, with one node.
set_up() {
  set -euo pipefail
  export PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root
  useradd --system --user-group --home-dir /var/lib/quorate --no-create-home --shell /usr/sbin/nologin quorate
  install -d -m 0750 -o root -g quorate /etc/quorate
  install -d -m 0700 -o quorate -g quorate /var/lib/quorate /var/lib/quorate-token
  printf '%s\n' 'directories.tokendir = /var/lib/quorate-token' 'objectstore.backend = file' 'log.level = ERROR' \
    'slots.removable = false' > /etc/quorate/softhsm2.conf
  export SOFTHSM2_CONF=/etc/quorate/softhsm2.conf
  runuser -u quorate -- softhsm2-util --init-token --free --label quorate-n1 --pin 123456 --so-pin 12345678
  (umask 077; echo 123456 > /etc/quorate/pin)
  chown quorate: /etc/quorate/pin
  chmod 0400 /etc/quorate/pin
  cat > /etc/quorate/node.toml <<TOML
name = "n1"
data_dir = "/var/lib/quorate"
[api]
listen = "127.0.0.1:7600"
[peer]
listen = "127.0.0.1:7601"
[tls]
cert = "/etc/quorate/n1.pem"
root_ca = "/etc/quorate/ca.pem"
[hsm]
module = "$MODULE"
token_label = "quorate-n1"
pin_file = "/etc/quorate/pin"
[hsm.environment]
SOFTHSM2_CONF = "/etc/quorate/softhsm2.conf"
TOML
  cd /root
  (umask 077; echo correct horse battery staple > passphrase)
  quorate pki init --dir pki --passphrase-file passphrase
  quorate pki client --dir pki --role admin --name alice --passphrase-file passphrase
  runuser -u quorate -- quorate pki request --config /etc/quorate/node.toml --out /var/lib/quorate/n1.request
  quorate pki sign --dir pki --request /var/lib/quorate/n1.request --passphrase-file passphrase --out /etc/quorate/n1.pem
  cp pki/ca.pem /etc/quorate/
  chmod 644 /etc/quorate/*.pem
  # Nothing else of this machine is started.
  mkdir -p /etc/systemd/system/quorate.service.d
  printf '%s\n' '[Unit]' DefaultDependencies=no Wants= '[Service]' StandardOutput=append:/out/journal \
    StandardError=append:/out/journal > /etc/systemd/system/quorate.service.d/alone.conf
  printf '%s\n' '[Unit]' DefaultDependencies=no Wants=quorate.service After=quorate.service '[Service]' Type=oneshot \
    StandardOutput=append:/out/seen StandardError=append:/out/seen 'ExecStart=/bin/bash /root/probe' \
    'ExecStopPost=/bin/systemctl --force --force poweroff' > /etc/systemd/system/probe.service
  printf '%s\n' '[Unit]' DefaultDependencies=no Wants=probe.service AllowIsolate=yes > /etc/systemd/system/boot.target
  { declare -f probe; echo probe; } > /root/probe
}

# What an operator does with the service.
probe() {
  set -euo pipefail
  cd /root
  export HOME=/root PATH=/usr/local/bin:/usr/bin:/bin QUORATE_ADDR=127.0.0.1:7600 QUORATE_CACERT=pki/ca.pem
  export QUORATE_CLIENT_CERT=pki/alice.pem QUORATE_CLIENT_KEY=pki/alice.key
  said() { until grep -qF -- "$1" /out/journal; do sleep 0.1; done; }
  starts() { until [ "$(grep -cF ' started node=' /out/journal)" = "$1" ]; do sleep 0.1; done; }
  unseal() { for share in 1 2; do quorate operator unseal < "shares/share-$share.txt"; done; }
  starts 1
  quorate operator init --shares 3 --threshold 2 --shares-out shares
  unseal
  quorate keys create --alias payments
  echo attack at dawn | quorate encrypt --key payments > secret
  systemctl reload quorate
  said 'the certificate was read again and is in use'
  systemctl restart quorate
  starts 2
  unseal
  quorate decrypt < secret
  systemctl stop quorate
  systemctl show --property=Result,ExecMainStatus,ActiveState quorate
}

export -f inside set_up probe
exec timeout --signal=KILL 100 unshare --fork --kill-child --pid --mount --uts --ipc --cgroup --net /bin/bash -c inside
