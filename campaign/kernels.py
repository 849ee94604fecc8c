"""CUDA C kernels of the campaign: hashing loops, memory-hard loops, arithmetic loops. Knows nothing of blocks.

`python kernels.py --dump DIR` writes the sources for nvcc; `--check` compares the SHA-256d code, built as
host C++, with hashlib. On the GPU every miner checks itself when it is built and names what failed.
"""

import ctypes
import hashlib
import random
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path

GENESIS = bytes.fromhex(
    "01000000"
    + "00" * 32
    + "3ba3edfd7a7b12b27ac72c3e67768f617fc81bc3888a51323a9fb8aa4b1e5e4a29ab5f49ffff001d1dac2b7c"
)  # the first Bitcoin header: its nonce 2083236893 gives 43 leading zero bits


class UnavailableError(RuntimeError):
    """Not every machine can run the block; the text says why this one cannot."""


_primes = [p for p in range(2, 312) if all(p % q for q in range(2, int(p**0.5) + 1))]


def _frac_root(p: int, root: int) -> int:
    """First 32 fractional bits of the square or cube root of `p`, in exact integer arithmetic."""
    target, low, high = p << (32 * root), 0, 1 << 40
    while low < high:
        mid = (low + high + 1) // 2
        low, high = (mid, high) if mid**root <= target else (low, mid - 1)
    return low & 0xFFFFFFFF


K256 = [_frac_root(p, 3) for p in _primes[:64]]
IV256 = [_frac_root(p, 2) for p in _primes[:8]]


def _c_list(values: list[int]) -> str:
    return ",".join(f"0x{v:08x}u" for v in values)


SHA_DEVICE = (
    """
#if defined(__CUDACC__) || defined(__CUDACC_RTC__)
#define DEV __device__ __forceinline__
#define CONST __constant__
#else
#define DEV static inline
#define CONST static const
#endif
typedef unsigned int u32; typedef unsigned long long u64;
"""
    f"CONST u32 SHA_K[64]={{{_c_list(K256)}}};\nCONST u32 SHA_IV[8]={{{_c_list(IV256)}}};\n"
    """
DEV u32 ror(u32 x,int n){return (x>>n)|(x<<(32-n));}
DEV u32 swap32(u32 x){return (x>>24)|((x>>8)&0xff00u)|((x<<8)&0xff0000u)|(x<<24);}
DEV void sha_block(u32*s,u32*w){
  u32 a=s[0],b=s[1],c=s[2],d=s[3],e=s[4],f=s[5],g=s[6],h=s[7];
#pragma unroll
  for(int i=0;i<64;i++){
    if(i>=16){u32 x=w[(i+1)&15],y=w[(i+14)&15];
      w[i&15]+=(ror(x,7)^ror(x,18)^(x>>3))+w[(i+9)&15]+(ror(y,17)^ror(y,19)^(y>>10));}
    u32 t1=h+(ror(e,6)^ror(e,11)^ror(e,25))+((e&f)^(~e&g))+SHA_K[i]+w[i&15];
    u32 t2=(ror(a,2)^ror(a,13)^ror(a,22))+((a&b)^(a&c)^(b&c));
    h=g;g=f;f=e;e=d+t1;d=c;c=b;b=a;a=t1+t2;
  }
  s[0]+=a;s[1]+=b;s[2]+=c;s[3]+=d;s[4]+=e;s[5]+=f;s[6]+=g;s[7]+=h;
}
/* job: midstate of the header's first 64 bytes (8 words), then its last three words before the nonce. */
DEV void sha256d_nonce(const u32*job,u32 nonce,u32*out){
  u32 s[8],w[16];
#pragma unroll
  for(int i=0;i<8;i++)s[i]=job[i];
#pragma unroll
  for(int i=0;i<16;i++)w[i]=0;
  w[0]=job[8];w[1]=job[9];w[2]=job[10];w[3]=swap32(nonce);w[4]=0x80000000u;w[15]=640;
  sha_block(s,w);
#pragma unroll
  for(int i=0;i<8;i++){w[i]=s[i];w[i+8]=0;}
  w[8]=0x80000000u;w[15]=256;
#pragma unroll
  for(int i=0;i<8;i++)out[i]=SHA_IV[i];
  sha_block(out,w);
}
"""
)

SHA_CUDA = (
    SHA_DEVICE
    + """
extern "C" __global__ void sha256d_scan(const u32*job,u32 start,u32 iters,u32 zeros,u32*found){
  u32 t=blockIdx.x*blockDim.x+threadIdx.x,total=gridDim.x*blockDim.x,j[11],o[8];
#pragma unroll
  for(int i=0;i<11;i++)j[i]=job[i];
  for(u32 k=0;k<iters;k++){u32 nonce=start+k*total+t;
    sha256d_nonce(j,nonce,o);
    if((swap32(o[7])>>(32-zeros))==0u){u32 p=atomicAdd(found,1u);if(p<63u)found[1+p]=nonce;}}
}
extern "C" __global__ void sha256d_digests(const u32*job,u32 start,u32*out){
  u32 t=blockIdx.x*blockDim.x+threadIdx.x,o[8];
  sha256d_nonce(job,start+t,o);
  for(int i=0;i<8;i++)out[8*t+i]=o[i];
}
"""
)

ETHASH_CUDA = """
typedef unsigned int u32; typedef unsigned long long u64;
#define FNV(a,b) (((a)*0x01000193u)^(b))
__device__ __forceinline__ u64 rol64(u64 x,int n){return (x<<n)|(x>>(64-n));}
__constant__ u64 RC[24]={1ull,0x8082ull,0x800000000000808aull,0x8000000080008000ull,0x808bull,0x80000001ull,
0x8000000080008081ull,0x8000000000008009ull,0x8aull,0x88ull,0x80008009ull,0x8000000aull,0x8000808bull,
0x800000000000008bull,0x8000000000008089ull,0x8000000000008003ull,0x8000000000008002ull,0x8000000000000080ull,
0x800aull,0x800000008000000aull,0x8000000080008081ull,0x8000000000008080ull,0x80000001ull,0x8000000080008008ull};
__device__ void keccak(u64*s){
  const int rot[24]={1,3,6,10,15,21,28,36,45,55,2,14,27,41,56,8,25,43,62,18,39,61,20,44};
  const int pil[24]={10,7,11,17,18,3,5,16,8,21,24,4,15,23,19,13,12,2,20,14,22,9,6,1};
#pragma unroll 1
  for(int r=0;r<24;r++){u64 c[5],t;
#pragma unroll
    for(int i=0;i<5;i++)c[i]=s[i]^s[i+5]^s[i+10]^s[i+15]^s[i+20];
#pragma unroll
    for(int i=0;i<5;i++){t=c[(i+4)%5]^rol64(c[(i+1)%5],1);
#pragma unroll
      for(int j=0;j<25;j+=5)s[i+j]^=t;}
    t=s[1];
#pragma unroll
    for(int i=0;i<24;i++){u64 x=s[pil[i]];s[pil[i]]=rol64(t,rot[i]);t=x;}
#pragma unroll
    for(int j=0;j<25;j+=5){
#pragma unroll
      for(int i=0;i<5;i++)c[i]=s[i+j];
#pragma unroll
      for(int i=0;i<5;i++)s[i+j]^=(~c[(i+1)%5])&c[(i+2)%5];}
    s[0]^=RC[r];}
}
__device__ __forceinline__ u32 pick(uint4 m,int k){return k==0?m.x:k==1?m.y:k==2?m.z:m.w;}
/* Eight lanes share a hash and read one 128-byte item of the DAG per access; each lane owns one nonce. */
extern "C" __global__ void ethash_scan(const uint4*dag,u32 items,u32 start,u32*found){
  u64 nonce=(u64)start+(u64)blockIdx.x*blockDim.x+threadIdx.x;int lane=threadIdx.x&7;
  u64 s[25];
#pragma unroll
  for(int i=0;i<25;i++)s[i]=0;
  s[0]=0x9e3779b97f4a7c15ull;s[4]=nonce;s[5]=1;s[8]=0x8000000000000000ull;
  keccak(s);
  u64 digest=0;
#pragma unroll 1
  for(int h=0;h<8;h++){
    u32 lo=(u32)s[0],hi=(u32)(s[0]>>32);
    u32 seed=__shfl_sync(0xffffffffu,lo,h,8),other=__shfl_sync(0xffffffffu,hi,h,8);
    uint4 m;m.x=seed^lane;m.y=other+lane;m.z=seed*(2*lane+1);m.w=other^(lane<<8);
#pragma unroll 4
    for(int a=0;a<64;a++){
      u32 x=FNV((u32)a^seed,pick(m,a&3))%items;
      x=__shfl_sync(0xffffffffu,x,(a>>2)&7,8);
      uint4 d=dag[(u64)x*8+lane];
      m.x=FNV(m.x,d.x);m.y=FNV(m.y,d.y);m.z=FNV(m.z,d.z);m.w=FNV(m.w,d.w);
    }
    u32 r=FNV(FNV(FNV(m.x,m.y),m.z),m.w);
#pragma unroll
    for(int o=1;o<8;o<<=1)r=FNV(r,__shfl_xor_sync(0xffffffffu,r,o,8));
    if(lane==h)digest=r;
  }
  s[8]=digest;keccak(s);
  if((s[0]>>44)==0){u32 p=atomicAdd(found,1u);if(p<63u)found[1+p]=(u32)nonce;}
}
"""

LOOPS_CUDA = """
typedef unsigned int u32;
extern "C" __global__ void fp32_loop(float*out,int n){
  float a=threadIdx.x*1e-3f+.5f,b=.999f,c=1e-3f,d=a+.1f,e=a+.2f,f=a+.3f,g=a+.4f,h=a+.6f,i=a+.7f,j=a+.8f;
  for(int k=0;k<n;k++){
#pragma unroll
    for(int u=0;u<8;u++){a=fmaf(a,b,c);d=fmaf(d,b,c);e=fmaf(e,b,c);f=fmaf(f,b,c);g=fmaf(g,b,c);h=fmaf(h,b,c);i=fmaf(i,b,c);j=fmaf(j,b,c);}}
  out[blockIdx.x*blockDim.x+threadIdx.x]=a+d+e+f+g+h+i+j;
}
extern "C" __global__ void int32_loop(u32*out,int n){
  u32 a=threadIdx.x+1,d=a*3,e=a*5,f=a*7,m=1664525u,c=1013904223u+blockIdx.x;
  for(int k=0;k<n;k++){
#pragma unroll
    for(int u=0;u<8;u++){a=a*m+c;d=(d^a)+(d>>7);e=e*m+d;f=((f<<11)|(f>>21))^e;}}
  out[blockIdx.x*blockDim.x+threadIdx.x]=a^d^e^f;
}
extern "C" __global__ void l2_loop(const uint4*buf,u32 items,u32*out,int n){
  u32 t=blockIdx.x*blockDim.x+threadIdx.x,total=gridDim.x*blockDim.x,acc=0,x=t%items;
  for(int k=0;k<n;k++){
#pragma unroll 8
    for(int u=0;u<8;u++){uint4 v=__ldcg(buf+x);acc^=v.x+v.y+v.z+v.w;x+=total;while(x>=items)x-=items;}}
  out[t]=acc;
}
"""


def kawpow_source(seed: int) -> str:
    """Return a KawPow-like program: 16 lanes of 32 registers, 64 rounds of reads and random math."""
    rng = random.Random(seed)
    ops = [
        "{a}+{b}",
        "{a}*{b}",
        "__umulhi({a},{b})",
        "min({a},{b})",
        "rotl({a},{b})",
        "rotr({a},{b})",
        "{a}&{b}",
        "{a}|{b}",
        "{a}^{b}",
        "__clz({a})+__clz({b})",
        "__popc({a})+__popc({b})",
    ]

    def merge(reg: int, value: str) -> str:
        n = rng.randrange(1, 32)
        forms = [
            f"m{reg}*33u+({value})",
            f"(m{reg}^({value}))*33u",
            f"rotl(m{reg},{n}u)^({value})",
            f"rotr(m{reg},{n}u)^({value})",
        ]
        return f"m{reg}={rng.choice(forms)};"

    body = []
    for i in range(18):
        if i < 11:
            body.append(merge(rng.randrange(32), f"cache[m{rng.randrange(32)}&4095u]"))
        a, b = rng.sample(range(32), 2)
        body.append(merge(rng.randrange(32), rng.choice(ops).format(a=f"m{a}", b=f"m{b}")))
    body += [
        merge(reg, f"d.{part}") for reg, part in zip(rng.sample(range(32), 4), "xyzw", strict=True)
    ]
    regs = "".join(
        f"u32 m{i}=(z=36969u*(z&65535u)+(z>>16))^((w=18000u*(w&65535u)+(w>>16))<<16);\n"
        for i in range(32)
    )
    fold = "".join(f"r=(r*0x01000193u)^m{i};" for i in range(32))
    newline = "\n"
    return f"""
typedef unsigned int u32; typedef unsigned long long u64;
__device__ __forceinline__ u32 rotl(u32 x,u32 n){{return __funnelshift_l(x,x,n&31u);}}
__device__ __forceinline__ u32 rotr(u32 x,u32 n){{return __funnelshift_r(x,x,n&31u);}}
extern "C" __global__ void kawpow_scan(const uint4*dag,u32 items,u32 start,u32*found){{
  __shared__ u32 cache[4096];
  for(u32 i=threadIdx.x;i<4096u;i+=blockDim.x)cache[i]=((const u32*)dag)[i];
  __syncthreads();
  u32 lane=threadIdx.x&15u;u64 nonce=start+((u64)blockIdx.x*blockDim.x+threadIdx.x)/16u;
  u32 z=(u32)nonce*0x9e3779b9u+lane+1u,w=(u32)(nonce>>16)^0x85ebca6bu^(lane<<9)^(u32)nonce;
{regs}
#pragma unroll 1
  for(u32 loop=0;loop<64u;loop++){{
    u32 x=__shfl_sync(0xffffffffu,m0,loop&15u,16)%items;
    uint4 d=dag[(u64)x*16u+(lane^(loop&15u))];
{newline.join(body)}
  }}
  u32 r=0x811c9dc5u;{fold}
  for(int o=1;o<16;o<<=1)r=(r*0x01000193u)^__shfl_xor_sync(0xffffffffu,r,o,16);
  if(lane==0u&&(r>>12)==0u){{u32 p=atomicAdd(found,1u);if(p<63u)found[1+p]=(u32)nonce;}}
}}
"""


def job_words(header: bytes) -> list[int]:
    """Midstate and tail of an 80-byte header, as the kernels take them."""
    state, words = list(IV256), list(struct.unpack(">16I", header[:64]))
    for i in range(16, 64):
        x, y = words[i - 15], words[i - 2]
        words.append(
            (
                words[i - 16]
                + (_ror(x, 7) ^ _ror(x, 18) ^ x >> 3)
                + words[i - 7]
                + (_ror(y, 17) ^ _ror(y, 19) ^ y >> 10)
            )
            & 0xFFFFFFFF
        )
    a, b, c, d, e, f, g, h = state
    for i in range(64):
        t1 = (
            h + (_ror(e, 6) ^ _ror(e, 11) ^ _ror(e, 25)) + ((e & f) ^ (~e & g)) + K256[i] + words[i]
        )
        t2 = (_ror(a, 2) ^ _ror(a, 13) ^ _ror(a, 22)) + ((a & b) ^ (a & c) ^ (b & c))
        a, b, c, d, e, f, g, h = (t1 + t2) & 0xFFFFFFFF, a, b, c, (d + t1) & 0xFFFFFFFF, e, f, g
    mid = [(s + v) & 0xFFFFFFFF for s, v in zip(state, (a, b, c, d, e, f, g, h), strict=True)]
    return mid + list(struct.unpack(">3I", header[64:76]))


def _ror(x: int, n: int) -> int:
    return (x >> n | x << (32 - n)) & 0xFFFFFFFF


def sha256d(header: bytes, nonce: int) -> bytes:
    """Return the double digest of a block's header with another nonce, by hashlib."""
    return hashlib.sha256(hashlib.sha256(header[:76] + struct.pack("<I", nonce)).digest()).digest()


def check_host() -> None:
    """Build the device code as host C++ and compare 257 digests, the genesis nonce among them, with hashlib."""
    with tempfile.TemporaryDirectory() as place:
        source, library = Path(place, "sha.cpp"), Path(place, "sha.so")
        entry = 'extern "C" void digest(const u32*j,u32 n,u32*o){sha256d_nonce(j,n,o);}\n'
        source.write_text(SHA_DEVICE + entry, encoding="utf-8")
        subprocess.run(["g++", "-O2", "-w", "-shared", "-fPIC", source, "-o", library], check=True)
        digest, job, out = (
            ctypes.CDLL(library).digest,
            (ctypes.c_uint * 11)(*job_words(GENESIS)),
            (ctypes.c_uint * 8)(),
        )
        first = struct.unpack("<I", GENESIS[76:])[0]
        for nonce in [first, *range(256)]:
            digest(job, ctypes.c_uint(nonce), out)
            if struct.pack(">8I", *out) != sha256d(GENESIS, nonce):
                raise AssertionError(f"SHA-256d differs from hashlib at nonce {nonce}")
        if not sha256d(GENESIS, first)[::-1].hex().startswith("000000000019d668"):
            raise AssertionError("the genesis header is mistyped")


SOURCES = {
    "sha256d": SHA_CUDA,
    "ethash": ETHASH_CUDA,
    "loops": LOOPS_CUDA,
    "kawpow": kawpow_source(1),
}

if __name__ == "__main__":
    if "--dump" in sys.argv:
        folder = sys.argv[sys.argv.index("--dump") + 1]
        for name, text in {**SOURCES, "kawpow7": kawpow_source(7)}.items():
            Path(folder, f"{name}.cu").write_text(text, encoding="utf-8")
    if "--check" in sys.argv:
        begin = time.perf_counter()
        check_host()
        print(f"SHA-256d equals hashlib on 257 nonces ({time.perf_counter() - begin:.1f} s)")
