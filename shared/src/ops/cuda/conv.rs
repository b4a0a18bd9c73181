//! Convolution and its two gradients by cuDNN, with descriptors and algorithm kept for each problem.

use std::any::Any;
use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use candle_core::cuda_backend::cudarc::cudnn::sys::{
    cudnnConvolutionBwdDataAlgo_t, cudnnConvolutionBwdFilterAlgo_t, cudnnConvolutionFwdAlgo_t, cudnnConvolutionMode_t,
    cudnnMathType_t, cudnnTensorFormat_t,
};
use candle_core::cuda_backend::cudarc::cudnn::{
    ConvBackwardData, ConvBackwardFilter, ConvDescriptor, ConvForward, Cudnn, CudnnError, FilterDescriptor,
    TensorDescriptor,
};
use candle_core::cuda_backend::cudarc::driver::{CudaSlice, CudaView};
use candle_core::cuda_backend::{CudaDevice, DeviceId};
use candle_core::{DType, Error, Result};

use super::{Element, allocate};
use crate::ops::conv::Pass;

/// The sizes of a convolution; padding is the same on all sides.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Problem {
    pub pass: Pass,
    /// N, C, H, W
    pub x: [usize; 4],
    /// N, O, H', W'
    pub y: [usize; 4],
    pub kernel: usize,
    pub stride: usize,
    pub padding: usize,
    /// Whether f32 values may be rounded to 10 bits of mantissa before they are multiplied.
    pub tf32: bool,
}

impl Problem {
    fn weight(&self) -> [usize; 4] {
        [self.y[1], self.x[1], self.kernel, self.kernel]
    }

    /// The shape of what is computed.
    pub fn output(&self) -> [usize; 4] {
        match self.pass {
            Pass::Forward => self.y,
            Pass::InputGrad => self.x,
            Pass::WeightGrad => self.weight(),
        }
    }
}

/// What cuDNN needs for one problem.
struct Plan<T: Element> {
    x: TensorDescriptor<T>,
    weight: FilterDescriptor<T>,
    y: TensorDescriptor<T>,
    conv: ConvDescriptor<T::Compute>,
    algorithm: Algorithm,
    /// Bytes.
    workspace: usize,
}

#[derive(Clone, Copy)]
enum Algorithm {
    Forward(cudnnConvolutionFwdAlgo_t),
    InputGrad(cudnnConvolutionBwdDataAlgo_t),
    WeightGrad(cudnnConvolutionBwdFilterAlgo_t),
}

/// cuDNN's handle on one device, with what is kept between calls. Handles stay in their thread.
struct Context {
    cudnn: Arc<Cudnn>,
    plans: HashMap<(DType, Problem), Rc<dyn Any>>,
    /// The largest workspace asked for so far. All work of a device is on one stream, so one is enough.
    workspace: Option<CudaSlice<u8>>,
}

thread_local! {
    static CONTEXTS: RefCell<HashMap<DeviceId, Context>> = RefCell::default();
}

fn dims(shape: [usize; 4]) -> [i32; 4] {
    shape.map(|size| size as i32)
}

impl<T: Element> Plan<T> {
    fn new(cudnn: &Arc<Cudnn>, problem: &Problem) -> std::result::Result<Self, CudnnError> {
        let format = cudnnTensorFormat_t::CUDNN_TENSOR_NCHW;
        let (padding, stride) = (problem.padding as i32, problem.stride as i32);
        let mode = cudnnConvolutionMode_t::CUDNN_CROSS_CORRELATION;
        let mut conv = cudnn.create_conv2d::<T::Compute>([padding; 2], [stride; 2], [1; 2], mode)?;
        // Without this, f32 convolutions may use TF32.
        conv.set_math_type(match T::DTYPE == DType::BF16 || problem.tf32 {
            true => cudnnMathType_t::CUDNN_TENSOR_OP_MATH,
            false => cudnnMathType_t::CUDNN_FMA_MATH,
        })?;
        let mut plan = Self {
            x: cudnn.create_4d_tensor(format, dims(problem.x))?,
            weight: cudnn.create_4d_filter(format, dims(problem.weight()))?,
            y: cudnn.create_4d_tensor(format, dims(problem.y))?,
            conv,
            algorithm: Algorithm::Forward(cudnnConvolutionFwdAlgo_t::CUDNN_CONVOLUTION_FWD_ALGO_IMPLICIT_GEMM),
            workspace: 0,
        };
        (plan.algorithm, plan.workspace) = plan.choose(problem.pass)?;
        Ok(plan)
    }

    /// The algorithm that cuDNN's heuristics favour, and the bytes it needs.
    fn choose(&self, pass: Pass) -> std::result::Result<(Algorithm, usize), CudnnError> {
        Ok(match pass {
            Pass::Forward => {
                let algorithm = self.forward().pick_algorithm()?;
                (Algorithm::Forward(algorithm), self.forward().get_workspace_size(algorithm)?)
            }
            Pass::InputGrad => {
                let algorithm = self.input_grad().pick_algorithm()?;
                (Algorithm::InputGrad(algorithm), self.input_grad().get_workspace_size(algorithm)?)
            }
            Pass::WeightGrad => {
                let algorithm = self.weight_grad().pick_algorithm()?;
                (Algorithm::WeightGrad(algorithm), self.weight_grad().get_workspace_size(algorithm)?)
            }
        })
    }

    fn forward(&self) -> ConvForward<'_, T, T::Compute, T> {
        ConvForward { conv: &self.conv, x: &self.x, w: &self.weight, y: &self.y }
    }

    fn input_grad(&self) -> ConvBackwardData<'_, T, T::Compute, T> {
        ConvBackwardData { conv: &self.conv, dx: &self.x, w: &self.weight, dy: &self.y }
    }

    fn weight_grad(&self) -> ConvBackwardFilter<'_, T, T::Compute, T> {
        ConvBackwardFilter { conv: &self.conv, x: &self.x, dw: &self.weight, dy: &self.y }
    }

    fn run(
        &self,
        a: &CudaView<T>,
        b: &CudaView<T>,
        out: &mut CudaSlice<T>,
        workspace: Option<&mut CudaSlice<u8>>,
    ) -> std::result::Result<(), CudnnError> {
        let scaling = (T::one(), T::zero());
        // SAFETY: the slices have the sizes of the problem that the descriptors were made from.
        unsafe {
            match self.algorithm {
                Algorithm::Forward(algorithm) => self.forward().launch(algorithm, workspace, scaling, a, b, out),
                Algorithm::InputGrad(algorithm) => self.input_grad().launch(algorithm, workspace, scaling, out, b, a),
                Algorithm::WeightGrad(algorithm) => self.weight_grad().launch(algorithm, workspace, scaling, a, out, b),
            }
        }
    }
}

impl Context {
    fn plan<T: Element>(&mut self, problem: &Problem) -> Result<Rc<Plan<T>>> {
        let key = (T::DTYPE, *problem);
        if let Some(plan) = self.plans.get(&key).and_then(|plan| plan.clone().downcast().ok()) {
            return Ok(plan);
        }
        let plan = Rc::new(Plan::<T>::new(&self.cudnn, problem).map_err(Error::wrap)?);
        self.plans.insert(key, plan.clone());
        Ok(plan)
    }

    fn convolve<T: Element>(
        &mut self,
        device: &CudaDevice,
        problem: &Problem,
        a: &CudaView<T>,
        b: &CudaView<T>,
    ) -> Result<CudaSlice<T>> {
        let mut out = allocate::<T>(device, problem.output().iter().product())?;
        let plan = self.plan::<T>(problem)?;
        if self.workspace.as_ref().map_or(0, CudaSlice::len) < plan.workspace {
            // SAFETY: cuDNN does not read what it has not written there.
            self.workspace = Some(unsafe { device.alloc::<u8>(plan.workspace) }?);
        }
        let workspace = self.workspace.as_mut().filter(|_| plan.workspace > 0);
        plan.run(a, b, &mut out, workspace).map_err(Error::wrap)?;
        Ok(out)
    }
}

/// Computes a pass of a convolution; `a` and `b` as in [`Pass`].
pub fn convolve<T: Element>(
    device: &CudaDevice,
    problem: &Problem,
    a: &CudaView<T>,
    b: &CudaView<T>,
) -> Result<CudaSlice<T>> {
    CONTEXTS.with_borrow_mut(|contexts| {
        let context = match contexts.entry(device.id()) {
            std::collections::hash_map::Entry::Occupied(entry) => entry.into_mut(),
            std::collections::hash_map::Entry::Vacant(entry) => {
                let cudnn = Cudnn::new(device.cuda_stream()).map_err(Error::wrap)?;
                entry.insert(Context { cudnn, plans: HashMap::new(), workspace: None })
            }
        };
        context.convolve(device, problem, a, b)
    })
}
