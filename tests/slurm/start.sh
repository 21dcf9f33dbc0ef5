#!/usr/bin/env bash
# A Slurm of two nodes on the loopback address of this computer, from Debian's packages, as root and
# without systemd: what make test-slurm runs against. Running it twice changes nothing.
set -euo pipefail

if sinfo --noheader >/dev/null 2>&1; then sinfo; exit; fi
if [ "$(id -u)" != 0 ]; then echo "starting Slurm needs root" >&2; exit 1; fi
command -v slurmctld >/dev/null || {
    apt-get update -qq
    apt-get install -y -qq --no-install-recommends slurm-wlm munge
}

host=$(hostname -s)
memory=$(($(free -m | awk '/Mem/ {print $2}') / 2 - 512))  # of each node
[ -f /etc/munge/munge.key ] || mungekey -c
install -d -o munge -g munge -m 755 /run/munge
[ -S /run/munge/munge.socket.2 ] ||
    setpriv --reuid=munge --regid=munge --clear-groups /usr/sbin/munged
mkdir -p /etc/slurm /var/spool/slurm/{ctld,node1,node2} /var/log/slurm
# Processes of a run meet at the name of its first node.
grep -qw node1 /etc/hosts || echo "127.0.0.1 node1 node2" >> /etc/hosts
cat > /etc/slurm/slurm.conf <<END
ClusterName=two
SlurmctldHost=$host(127.0.0.1)
SlurmUser=root
StateSaveLocation=/var/spool/slurm/ctld
SlurmdSpoolDir=/var/spool/slurm/%n
SlurmctldLogFile=/var/log/slurm/ctld.log
SlurmdLogFile=/var/log/slurm/%n.log
SlurmctldPidFile=/run/slurmctld.pid
SlurmdPidFile=/run/slurmd.%n.pid
AuthType=auth/munge
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
ReturnToService=2
JobRequeue=1
KillWait=15
SchedulerParameters=sched_interval=5,sched_min_interval=500000,bf_interval=5
NodeName=DEFAULT CPUs=$(nproc) RealMemory=$memory State=UNKNOWN
NodeName=node1 NodeHostname=$host NodeAddr=127.0.0.1 Port=17001
NodeName=node2 NodeHostname=$host NodeAddr=127.0.0.1 Port=17002
PartitionName=main Nodes=node[1-2] Default=YES MaxTime=INFINITE State=UP OverSubscribe=NO
END
slurmctld
for node in node1 node2; do slurmd -N $node; done
for _ in $(seq 20); do
    if sinfo --noheader --Node --format %T | grep -c idle | grep -q 2; then break; fi
    sleep 1
done
sinfo
