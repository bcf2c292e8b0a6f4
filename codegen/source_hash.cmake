# cmake -DROOT=… -DOUT=file.cpp -P source_hash.cmake: hashes of everything that decides what object code comes out, on
# CPUs and on GPUs.
set(both ${ROOT}/ir/*.cpp ${ROOT}/ir/*.h ${ROOT}/ir/ops.def ${ROOT}/compiler/*.cpp ${ROOT}/compiler/*.h
    ${ROOT}/compiler/fuse/* ${ROOT}/codegen/*.cpp ${ROOT}/codegen/*.h)
function(hash_of out)
  file(GLOB files RELATIVE ${ROOT} ${ARGN})
  list(SORT files)
  set(all)
  foreach(file ${files})
    file(SHA256 ${ROOT}/${file} hash)
    string(APPEND all "${file} ${hash}\n")
  endforeach()
  string(SHA256 hash "${all}")
  string(SUBSTRING ${hash} 0 32 hash)
  set(${out} ${hash} PARENT_SCOPE)
endfunction()
hash_of(cpu ${both} ${ROOT}/codegen/cpu/*.cpp ${ROOT}/codegen/cpu/*.h)
hash_of(cuda ${both} ${ROOT}/codegen/cuda/*.cpp ${ROOT}/codegen/cuda/*.h ${ROOT}/codegen/cuda/device/*.cuh
        ${ROOT}/codegen/cuda/device/primitives/*.cuh)
file(CONFIGURE OUTPUT ${OUT} CONTENT
"namespace tilewright {
extern const char kCodegenSourceHash[], kCudaSourceHash[];
const char kCodegenSourceHash[] = \"${cpu}\", kCudaSourceHash[] = \"${cuda}\";
}
")
